"""What a finished study says: tables, claims, figures, the explorer and the front page.

Everything here is derived from per-image errors and from `paper`, the published numbers as data.
"""
