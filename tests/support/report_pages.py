"""The report as a reader of its HTML sees it, without a browser."""

import json
from html.parser import HTMLParser

HOSTILE = "</script><img src=x onerror=alert(1)><!--\u2028"


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.elements = []
        self.text = []
        self.scripts = {}
        self.styles = []
        self._inside = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._inside = (tag, dict(attributes)) if tag in ("script", "style") else self._inside

    def handle_endtag(self, tag):
        if self._inside and tag == self._inside[0]:
            self._inside = None

    def handle_data(self, data):
        if self._inside is None:
            self.text.append(data)
        elif self._inside[0] == "style":
            self.styles.append(data)
        else:
            name = self._inside[1].get("id", "script")
            self.scripts[name] = self.scripts.get(name, "") + data

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())

    @property
    def data(self):
        return json.loads(self.scripts["data"])

    def forest(self):
        return [e for tag, e in self.elements if tag == "tr" and "data-implementation" in e]
