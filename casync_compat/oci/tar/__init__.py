"""Tars to the byte: members, trees of them, and the recipe by which a catar becomes the same tar again."""
