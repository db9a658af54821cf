"""Routers whose encoder or decoder is trained with them: they read the text of a query and need torch."""
