"""A page as a reader of its HTML sees it, without a browser."""

import json
from html.parser import HTMLParser

HOSTILE = "</script><img src=x onerror=alert(1)><!--\u2028${alert(2)}{{ 7*7 }}"


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.elements = []  # (tag, attributes)
        self.text = []
        self.scripts = []  # (attributes, text)
        self.styles = []
        self._inside = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._inside = tag if tag in ("script", "style") else self._inside
        if tag == "script":
            self.scripts.append((dict(attributes), ""))

    def handle_endtag(self, tag):
        self._inside = None if tag == self._inside else self._inside

    def handle_data(self, data):
        if self._inside is None:
            self.text.append(data)
        elif self._inside == "style":
            self.styles.append(data)
        else:
            attributes, text = self.scripts[-1]
            self.scripts[-1] = attributes, text + data

    @property
    def attributes(self):
        return [pair for _, attributes in self.elements for pair in attributes.items()]

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())

    @property
    def data(self):
        """The report's data block."""
        (text,) = (text for attributes, text in self.scripts if attributes.get("id") == "data")
        return json.loads(text)

    @property
    def code(self):
        """The scripts that run, joined."""
        return "\n".join(text for attributes, text in self.scripts if "type" not in attributes)

    def forest(self):
        """The lines of the report's forest plot."""
        return [e for tag, e in self.elements if tag == "tr" and "data-implementation" in e]
