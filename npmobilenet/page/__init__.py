"""The page: one offline HTML file on which a real MobileNet is seen, counted, changed and written, number by number."""

from npmobilenet.page.compose import compose_page

__all__ = ["compose_page"]
