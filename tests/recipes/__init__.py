"""Recipes: what loads, what is refused and how, and what a hash stands for."""
