"""Parts of docs/ that are made, not typed: keys of recipes, API, numbers of pitfalls."""
