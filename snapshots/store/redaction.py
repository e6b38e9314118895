"""What is never said: values that may be secrets, in what libraries write into their errors.

One place for all of it. Settings may hold a secret under any name, also where it does not belong, so their values are
taken out of an error's text; an address is said without its password; of a command only that it failed.
"""

import re
from collections.abc import Mapping
from typing import Any

#: the password, or the token, before the host of an address
_USERINFO = re.compile(r"(?<=://)[^/?#\s\"']*@")
#: what is asked of an address, and where in it: what signs a request may have any name there
_QUERY = re.compile(r"(://[^\s\"'?#]*[?#])[^\s\"']+")
#: what signs a request, where only a part of its address is said
_SIGNED = re.compile(r"(?i)((?:signature|\bsig|token|secret|password|passwd|api_?key|credential)=)[^&\s\"']+")
_SECRET_KEY = re.compile(r"(?i)pass|secret|token|key|pem|credential|jaas|oauth|config")
#: shorter values are words of any sentence, and longer ones are found inside of words too
_SHORTEST, _LONG = 3, 8


def without_passwords(text: str) -> str:
    """The text with addresses that tell no password, and nothing of what is asked of them.

    >>> without_passwords("cannot reach http://user:pw@host:80/a?x=1&token=t")
    'cannot reach http://…@host:80/a?…'
    """
    if "://" not in text and "=" not in text:
        return text
    return _SIGNED.sub(r"\1…", _QUERY.sub(r"\1…", _USERINFO.sub("…@", text)))


def without_values(text: str, settings: Mapping[str, Any], *, but_harmless: bool = False) -> str:
    """The text without what the operator's settings say; their names stay.

    ``but_harmless``: only of settings that hold a secret by their name, where the others help to find what is wrong.

    Short values of settings that hold no secret by their name are taken out only where they stand alone, so that
    ``ssl`` stays in ``ssl.key.pem``.

    >>> without_values('bad "ssl" for ssl.key.pem: hunter2', {"security.protocol": "ssl", "ssl.key.pem": "hunter2"})
    'bad "(what security.protocol says)" for ssl.key.pem: (what ssl.key.pem says)'
    """
    for key, value in sorted(settings.items(), key=lambda one: -len(str(one[1]))):
        if not isinstance(value, str) or len(value.strip()) < _SHORTEST:
            continue
        found = re.escape(value)
        secret = _SECRET_KEY.search(key) is not None
        if but_harmless and not secret:
            continue
        if len(value) < (_LONG if not secret else _SHORTEST + 1):
            found = rf"(?<![\w.:-]){found}(?![\w.:-])"
        said = f"(what {key} says)"
        text = re.sub(found, lambda _, said=said: said, text)  # type: ignore[misc]
    return without_passwords(text)
