"""Canaries: plain values that nobody else writes, and the search for them in every form."""

import base64
import secrets
from contextlib import suppress


class Canaries:
    """Values of one family, which are told apart where they are found."""

    def __init__(self):
        self._family = f"canary-{secrets.token_hex(6)}-"
        self._family_forms = set(forms(self._family.encode()))
        self._forms = {}

    def new(self):
        """A value; its digits are its own."""
        # what follows the number is what some of its forms lack
        canary = f"{self._family}{len(self._forms):06d}-end"
        self._forms[canary] = set(forms(canary.encode()))
        return canary

    def found(self, data):
        """The values that are in some bytes or text."""
        data = data.encode() if isinstance(data, str) else data
        around = self._around(data)
        return {
            canary
            for canary, its_forms in self._forms.items()
            if any(form in text for text in around for form in its_forms)
        }

    def in_files(self, folder):
        """The files in a folder that hold any, and which."""
        found = {}
        for path in folder.rglob("*"):
            with suppress(FileNotFoundError):
                if path.is_file() and (canaries := self.found(path.read_bytes())):
                    found[str(path.relative_to(folder))] = canaries
        return found

    def _around(self, data):
        """The places where something of the family is, each text once."""
        longest = max((len(form) for some in self._forms.values() for form in some), default=0)
        places = set()
        for form in self._family_forms:
            at = data.find(form)
            while at >= 0:
                places.add(bytes(data[max(0, at - longest) : at + 2 * longest]))
                at = data.find(form, at + 1)
        return places


def forms(plain):
    """Some bytes as they would look in several encodings."""
    yield plain
    yield plain.hex().encode()
    yield plain.hex().upper().encode()
    yield plain.decode("latin1").encode("utf-16-le")
    for before in range(3):
        # Base64 depends on where in a group of three bytes a text begins; the groups at its ends
        # depend on what is beside it.
        for encode in base64.b64encode, base64.urlsafe_b64encode:
            yield encode(b"-" * before + plain)[4:-4]
