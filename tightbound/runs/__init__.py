"""Runs: recipes, what is built from them, and the folders they leave behind. Importing it loads no torch."""
