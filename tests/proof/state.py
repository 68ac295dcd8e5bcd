"""What the commit records of an instance add up to, and its hash, worked out from their JSON alone.

Owns: the positions, the fingerprints of vanished partitions, the columns and the small rest; how a record changes them; the hash that each record
of version 2 names; holding a snapshot against them.
Does not own: the chain of the records and their files (see oracle.py). Nothing here is Pintail's code.
"""
import base64
import hashlib
import json
import struct
from datetime import datetime

DEAD_LETTERS = "dead_letters/"
"""What the id of a partition of replayed dead letters begins with: those stay where they are at a take-over."""
WHOLE = 2**256
MILLION = 1_000_000


class DoesNotFollow(Exception):
    """A record does not follow from the state before it; says why."""


class State:
    def __init__(self):
        self.positions, self.remembered = {}, {}
        self.generation, self.columns, self.schema_version, self.key, self.expired_before = 0, [], 0, None, None
        self.usual, self.accepted = (0, 0), {}
        self.sum = 0

    def offsets(self):
        """Returns where each source partition goes on."""
        return {name: position[1] for name, position in self.positions.items()}

    def apply(self, record):
        """Takes in the next record."""
        if record["version"] == 1:
            self._check_none_forgotten(record)
        elif self.schema_version == 0 and self.columns:
            # Version 1 does not number columns.
            self.columns, self.schema_version = [{"id": n, **column} for n, column in enumerate(self.columns, 1)], 1
        key = record.get("key")
        if key and key != self.key:
            if self.key:
                # What another key has marked says nothing.
                for name, (label, to, _) in list(self.positions.items()):
                    self._put(name, (label, to, None))
                for head in list(self.remembered):
                    self._remember(head, None)
            self.key = key
        if record.get("generation", 0) > self.generation:
            for name in [name for name in self.positions if not name.startswith(DEAD_LETTERS)]:
                self._put(name, None)
            self.generation, self.accepted = record["generation"], {}
        for span in record["source"]["partitions"]:
            self._apply_span(span, record)
        if before := record["source"].get("forget_before"):
            for head in [head for head, fingerprint in self.remembered.items() if fingerprint[2] < before]:
                self._remember(head, None)
        if record.get("schema"):
            self.columns, self.schema_version = record["schema"], record.get("schema_version", 0)
        action = record.get("action") or {}
        if action.get("kind") == "expire" and action.get("before"):
            self.expired_before = max(filter(None, (self.expired_before, action["before"])), key=datetime.fromisoformat)
        self.accepted |= {up_to["id"]: up_to["to"] for up_to in action.get("up_to", [])}
        if record["version"] > 1 and record.get("trigger") and not any(span["id"].startswith(DEAD_LETTERS) for span in record["source"]["partitions"]):
            self._usual(record["counts"]["records_in"], sum(record["counts"]["dead_letters"].values()))
        self.accepted = {name: to for name, to in sorted(self.accepted.items()) if name not in self.positions or self.positions[name][1] < to}
        said = record.get("state_sha256")
        if said and said != self.sha256():
            raise DoesNotFollow(f"the state after it is {self.sha256()}, it says {said}")

    def sha256(self):
        """Returns the hash of all of it."""
        numbers = struct.pack("<QQ", len(self.positions), len(self.remembered))
        return hashlib.sha256(compact(self.rest()) + numbers + self.sum.to_bytes(32, "little")).hexdigest()

    def rest(self):
        usual = {"records": self.usual[0], "rejected": self.usual[1]} if any(self.usual) else None
        optional = {"key": self.key, "expired_before": self.expired_before, "usual": usual, "accepted": self.accepted}
        return {"generation": self.generation, "columns": self.columns, "schema_version": self.schema_version} | {
            name: value for name, value in optional.items() if value}

    def check_snapshot(self, snapshot):
        """Holds the content of a snapshot against this state; returns what differs, or None."""
        packed = base64.b64decode(snapshot["remembered"])
        positions = {entry["id"]: (entry["label"], entry["to"], entry.get("evidence")) for entry in snapshot["positions"]}
        remembered = {bytes(packed[n:n + 16]): packed[n:n + 48] for n in range(0, len(packed), 48)}
        for what, found, expected in (("positions", positions, self.positions), ("rest", snapshot["rest"], self.rest()),
                                      ("fingerprints", remembered, {head: self._packed(head, f) for head, f in self.remembered.items()})):
            if found != expected:
                return f"its {what} are {found}, the records come to {expected}"
        return None

    def _usual(self, records, rejected):
        """Takes in what became of records: of the last million, the older ones fade."""
        if records > MILLION:
            records, rejected = MILLION, rejected * MILLION // records
        kept = min(self.usual[0], MILLION - records)
        self.usual = kept + records, self.usual[1] * kept // max(1, self.usual[0]) + rejected

    def _apply_span(self, span, record):
        name, known = span["id"], self.positions.get(span["id"])
        is_new, taken_over = span.get("new", False), span.get("taken_over")
        if known and (is_new or taken_over or known[1] != span["from"]):
            raise DoesNotFollow(f"it begins {span}, those before ended at {known[1]}")
        if not known and is_new == bool(taken_over):
            raise DoesNotFollow(f"it begins {span}, of which nothing is known")
        evidence = span.get("evidence")
        if is_new and evidence and evidence.get("witnesses"):
            for head in {mark_of(evidence["witnesses"][0]), *key_and_tail(evidence)[:1]} & self.remembered.keys():
                self._remember(head, None)
        if not span.get("vanished"):
            return self._put(name, (span["label"], span["to"], evidence))
        self._put(name, None)
        self._remember_vanished(evidence or known and known[2], span["to"], record["time"])

    def _remember_vanished(self, evidence, to, time):
        if found := key_and_tail(evidence or {}):
            at = int(datetime.fromisoformat(time).timestamp())
            self._remember(found[0], (found[1], to, at, evidence["witnesses"][0]["to"]))

    def _check_none_forgotten(self, record):
        if forgotten := self.positions.keys() - {span["id"] for span in record["source"]["partitions"]}:
            raise DoesNotFollow(f"it has forgotten the source partitions {sorted(forgotten)}")

    def _put(self, name, position):
        if old := self.positions.pop(name, None):
            self.sum = (self.sum - number(compact([name, *old]))) % WHOLE
        if position:
            self.positions[name] = position
            self.sum = (self.sum + number(compact([name, *position]))) % WHOLE

    def _remember(self, head, fingerprint):
        if old := self.remembered.pop(head, None):
            self.sum = (self.sum - number(self._packed(head, old))) % WHOLE
        if fingerprint:
            self.remembered[head] = fingerprint
            self.sum = (self.sum + number(self._packed(head, fingerprint))) % WHOLE

    @staticmethod
    def _packed(head, fingerprint):
        tail, to, at, head_bytes = fingerprint
        return head + tail + struct.pack("<QIHxx", to, at, head_bytes)


def compact(value):
    """Writes JSON without spaces, text as it is."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def number(content):
    return int.from_bytes(hashlib.sha256(content).digest(), "little")


def mark_of(witness):
    return bytes.fromhex(witness["mark"])


def key_and_tail(evidence):
    """Returns what a vanished file is remembered by; nothing if that is nothing. With a body, both are of that as well."""
    witnesses = evidence.get("witnesses")
    if not witnesses or witnesses[0]["from"] != 0 or witnesses[0]["to"] >= 2**16:
        return ()
    head, tail = mark_of(witnesses[0]), mark_of(witnesses[-1])
    if "body" not in evidence:
        return head, tail
    tail = bytes(one ^ other for one, other in zip(tail, bytes.fromhex(evidence["body"]), strict=True))
    return head[:12] + tail[:4], tail
