// Lints the browser's own modules: the app's, and the stand-in station's.
import js from "@eslint/js";
import globals from "globals";

export default [
  { ignores: ["**/vendor/**", "**/*.min.js", "**/node_modules/**", ".venv/**", "var/**", "shots/**", "build/**", "dist/**"] },
  js.configs.recommended,
  {
    files: ["aircox_listen_stats/static/**/*.js", "example_project/**/*.js"],
    languageOptions: { ecmaVersion: 2022, sourceType: "module", globals: globals.browser },
    rules: {
      eqeqeq: "error",
      "no-console": "error",
      "no-implied-eval": "error",
      "no-var": "error",
      "prefer-const": "error",
    },
  },
];
