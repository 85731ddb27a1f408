"""Pages of the site: programs and episodes are pages too."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.utils import timezone
from django.utils.text import slugify

SLUG_LENGTH = 120


class PageQuerySet(models.QuerySet[Any]):
    def draft(self) -> PageQuerySet:
        return self.filter(status=Page.STATUS_DRAFT)

    def published(self) -> PageQuerySet:
        return self.filter(status=Page.STATUS_PUBLISHED)

    def trash(self) -> PageQuerySet:
        return self.filter(status=Page.STATUS_TRASH)

    def parent(self, parent: Page | None = None, id: int | None = None) -> PageQuerySet:
        if id is None:
            return self.filter(parent=parent)
        return self.filter(parent__id=id)


class BasePage(models.Model):
    STATUS_DRAFT = 0x00
    STATUS_PUBLISHED = 0x10
    STATUS_TRASH = 0x20
    STATUS_CHOICES = (
        (STATUS_DRAFT, "draft"),
        (STATUS_PUBLISHED, "published"),
        (STATUS_TRASH, "trash"),
    )

    parent = models.ForeignKey("self", models.CASCADE, blank=True, null=True, related_name="child_set")
    title = models.CharField(max_length=100)
    slug = models.SlugField(max_length=SLUG_LENGTH, blank=True, unique=True)
    status = models.PositiveSmallIntegerField(default=STATUS_DRAFT, choices=STATUS_CHOICES)
    content = models.TextField(blank=True, null=True)

    objects = PageQuerySet.as_manager()

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.title

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self.slug:
            self.slug = _free_slug(self.title)
        super().save(*args, **kwargs)

    @property
    def is_draft(self) -> bool:
        return self.status == self.STATUS_DRAFT

    @property
    def is_published(self) -> bool:
        return self.status == self.STATUS_PUBLISHED

    @property
    def is_trash(self) -> bool:
        return self.status == self.STATUS_TRASH

    def get_absolute_url(self) -> str:
        return "#"


class Page(BasePage):
    pub_date = models.DateTimeField(blank=True, null=True)
    featured = models.BooleanField(default=False)
    allow_comments = models.BooleanField(default=True)

    def save(self, *args: Any, **kwargs: Any) -> None:
        if self.is_published and self.pub_date is None:
            self.pub_date = timezone.now()
        elif not self.is_published:
            self.pub_date = None
        super().save(*args, **kwargs)


def _free_slug(title: str) -> str:
    base = slugify(title)[: SLUG_LENGTH - 8] or "page"
    slug, number = base, 1
    while Page.objects.filter(slug=slug).exists():
        number += 1
        slug = f"{base}-{number}"
    return slug
