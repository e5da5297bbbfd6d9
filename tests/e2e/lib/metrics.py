"""A strict reader of the Prometheus text format (version 0.0.4)."""
import math
import re

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_SAMPLE = re.compile(rf"({_NAME})(?:\{{(.*)\}})? (\S+)( \d+)?")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\n"])*)"(?:,|$)')
_TYPES = {"counter", "gauge", "histogram", "summary", "untyped"}


def _labels(text):
    labels, at = {}, 0
    while text and at < len(text):
        m = _LABEL.match(text, at)
        assert m, f"malformed labels: {text!r}"
        assert m[1] not in labels, f"duplicate label {m[1]}: {text!r}"
        labels[m[1]] = m[2].replace('\\"', '"').replace("\\n", "\n").replace("\\\\", "\\")
        at = m.end()
    return labels


class Metrics:
    """One scrape. samples: list of (name, labels, value)."""

    def __init__(self, text):
        self.types, self.helps, self.samples, self.text = {}, {}, [], text
        assert text.endswith("\n"), "the last line has no line feed"
        seen, family = set(), None
        for line in text.split("\n")[:-1]:
            if line.startswith("# HELP "):
                _, _, name, words = line.split(" ", 3)
                assert name not in self.helps and words.strip(), line
                self.helps[name] = words
            elif line.startswith("# TYPE "):
                _, _, name, kind = line.split(" ")
                assert kind in _TYPES and name not in self.types, line
                assert (kind == "counter") == name.endswith("_total"), f"{name} is a {kind}"
                self.types[name], family = kind, name
            elif line and not line.startswith("#"):
                m = _SAMPLE.fullmatch(line)
                assert m, f"malformed line: {line!r}"
                # all samples of a name stand together, behind its TYPE
                assert family and self.family(m[1]) == family, f"{line!r} is not of {family}"
                labels = _labels(m[2] or "")
                key = (m[1], tuple(sorted(labels.items())))
                assert key not in seen, f"sample given twice: {line!r}"
                seen.add(key)
                self.samples.append((m[1], labels, float(m[3])))
        assert self.types.keys() == self.helps.keys()

    def family(self, name):
        """What a sample belongs to: a histogram's own name for its _bucket, _sum and _count."""
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        return base if self.types.get(base) == "histogram" else name

    def get(self, name, **labels):
        """Sum of the samples of that name whose labels include these; NaN-free; 0 when none. Every
        counter ends in _total: it may be left out."""
        name = f"{name}_total" if f"{name}_total" in self.types else name
        return sum(v for n, have, v in self.samples
                   if n == name and all(have.get(k) == w for k, w in labels.items()))

    def by(self, name, label, **labels):
        """{that label's value: sample} of those whose other labels include these."""
        return {have[label]: v for n, have, v in self.samples
                if n == name and all(have.get(k) == w for k, w in labels.items())}

    def has(self, name):
        return any(n == name for n, _, _ in self.samples)

    def histograms(self):
        """{(name, labels without le): [(le, value), …]} for every histogram."""
        out = {}
        for n, labels, v in self.samples:
            if n.endswith("_bucket") and self.types.get(n[:-7]) == "histogram":
                rest = tuple(sorted((k, w) for k, w in labels.items() if k != "le"))
                le = math.inf if labels["le"] == "+Inf" else float(labels["le"])
                out.setdefault((n[:-7], rest), []).append((le, v))
        return out
