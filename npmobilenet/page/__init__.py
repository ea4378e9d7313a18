"""The page: one offline HTML file on which a real MobileNet is seen, counted, changed and written, number by number."""

from npmobilenet.page.compose import page

__all__ = ["page"]
