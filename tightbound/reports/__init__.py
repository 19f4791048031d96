"""A run told on one page: its pictures and its report."""
