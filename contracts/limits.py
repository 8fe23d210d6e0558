"""Every limit that a command checks (size, length, count), as named values beside the types that they limit.

Belongs here: the limits, and the message for a value that exceeds one. Commands, schemas, tables and documents take
them from here. Does not belong here: going through a command's fields (`oltp/commands/checking.py`).

Why sums never overflow: one row's values fit 64 bits. No amount exceeds `AMOUNT_MICRO_MAX`, so the difference of two
versions is at most twice that, which is less than 2**63. Sums over rows use at least 128 bits (hugeint in DuckDB,
numeric in PostgreSQL, integers in Python). 128 bits hold 10**20 rows of the largest amount.

Limits apply to what is written. Stored values are read whatever their length, also when a schema names a limit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Annotated

import msgspec

AMOUNT_MICRO_MAX = 10**18
"""The largest amount of one order, payment, refund or adjustment, in micro-units: a million million major units."""
AMOUNT_MINOR_MAX = 10**16
"""The same in minor units of the currency with the smallest ones (four decimals)."""
STOCK_MAX = 10**12
"""Units of one variant at one location, on hand or moved at once."""
STOCK_SLOTS = 16
"""Over how many slots the level of a hot variant is spread; any other level has one."""
NEW_EVENT_BYTES_MAX = 4 << 20
"""The largest first event of an aggregate. Later changes add only a few digits to a line."""
EVENT_BYTES_MAX = 8 << 20
"""The largest event. A command that would make a growing aggregate (variants, grants, captures) larger is refused."""


class Characters(Enum):
    """Which characters a text may hold. Each value lists the refused ones, as a regular expression's character class.

    Python and PostgreSQL read these classes in the same way. PostgreSQL cannot store NUL and surrogates anyway.
    """

    STORABLE = ""
    """Every character that can be stored: for references to names that are stored already."""
    WRITTEN = r"\u0001-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\ufffe\uffff"
    """No control characters except tab and line break: for free text."""
    PLAIN = (
        r"\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff"
        r"\U0001d173-\U0001d17a\U000e0000-\U000e007f"
    )
    """No control or invisible characters, and none that change the text direction: for unambiguous ids and names."""

    @property
    def refused(self) -> re.Pattern[str]:
        """Return the pattern that finds a refused character; NUL and surrogates are always refused."""
        return _REFUSED[self]

    @property
    def words(self) -> str:
        """Return a phrase that says which characters are allowed."""
        return _WORDS[self]


_REFUSED = {item: re.compile(rf"[\u0000\ud800-\udfff{item.value}]") for item in Characters}
_WORDS = {
    Characters.STORABLE: "any characters but NUL and halves of surrogate pairs",
    Characters.WRITTEN: "no control characters but tabs and line breaks",
    Characters.PLAIN: "no control characters, line breaks or invisible characters",
}


@dataclass(frozen=True, kw_only=True)
class Text:
    """How long a text is, in characters (code points), and which characters it holds."""

    name: str
    longest: int
    shortest: int = 1
    characters: Characters = Characters.PLAIN

    @property
    def schema(self) -> msgspec.Meta:
        """What a JSON Schema says of it."""
        least = {"minLength": self.shortest} if self.shortest else {}
        return msgspec.Meta(extra_json_schema={**least, "maxLength": self.longest})

    @property
    def words(self) -> str:
        """Return the limit in words."""
        return f"{self.shortest:,} to {self.longest:,} characters; {self.characters.words}"

    def problem(self, value: str) -> str | None:
        """Return what is wrong with a value; None when nothing is."""
        if not self.shortest <= len(value) <= self.longest:
            return f"has {len(value):,} characters; {self.name} has {self.shortest:,} to {self.longest:,}"
        if value.isascii() and value.isprintable():
            return None
        if found := self.characters.refused.search(value):
            return f"holds the character U+{ord(found[0]):04X}; {self.name} has {self.characters.words}"
        return None


_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


@dataclass(frozen=True, kw_only=True)
class UuidText:
    """The only notation of a UUID in events, rows and keys."""

    name: str = "an id"
    words: str = "a UUID in lower case with hyphens"

    @property
    def schema(self) -> msgspec.Meta:
        """What a JSON Schema says of it."""
        return msgspec.Meta(extra_json_schema={"format": "uuid"})

    def problem(self, value: str) -> str | None:
        """Return what is wrong with a value; None when nothing is."""
        return None if _UUID.fullmatch(value) else f"is not a UUID; {self.name} is {self.words}"


@dataclass(frozen=True, kw_only=True)
class Whole:
    """A whole number from `least` to `most`, both included."""

    name: str
    least: int
    most: int

    @property
    def schema(self) -> msgspec.Meta:
        """What a JSON Schema says of it."""
        return msgspec.Meta(extra_json_schema={"minimum": self.least, "maximum": self.most})

    @property
    def words(self) -> str:
        """Return the limit in words."""
        return f"a whole number from {self.least:,} to {self.most:,}"

    def problem(self, value: int) -> str | None:
        """Return what is wrong with a value; None when nothing is."""
        if self.least <= value <= self.most:
            return None
        shown = f"{value:,}" if value.bit_length() <= 128 else "a number of more than 128 bits"
        bound = f"at least {self.least:,}" if value < self.least else f"at most {self.most:,}"
        return f"is {shown}; {self.name} must be {bound}"


@dataclass(frozen=True, kw_only=True)
class Count:
    """The largest number of items in a list."""

    name: str
    most: int

    @property
    def schema(self) -> msgspec.Meta:
        """What a JSON Schema says of it."""
        return msgspec.Meta(extra_json_schema={"maxItems": self.most})

    @property
    def words(self) -> str:
        """Return the limit in words."""
        return f"at most {self.most:,}"

    def problem(self, number: int) -> str | None:
        """Return what is wrong with a list of so many items; None when nothing is."""
        return None if number <= self.most else f"has {number:,} items; {self.name} are at most {self.most:,}"


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A timestamp with its offset from UTC, in the years that every store can hold."""

    name: str = "a moment"
    words: str = "a date and time with an offset from UTC in whole minutes, in the years 1 to 9999"

    @property
    def schema(self) -> msgspec.Meta:
        """What a JSON Schema says of it: nothing beyond the type."""
        return msgspec.Meta()

    def problem(self, value: datetime) -> str | None:
        """Return what is wrong with a value; None when nothing is."""
        offset = value.utcoffset()
        if offset is None:
            return f"has no offset from UTC; {self.name} is {self.words}"
        if offset % timedelta(minutes=1):
            return f"has an offset of {offset}; {self.name} is {self.words}"
        try:
            value.astimezone(UTC)
        except OverflowError:
            return f"lies outside of the years 1 to 9999 in UTC; {self.name} is {self.words}"
        return None


Limit = Text | UuidText | Whole | Count | Moment

# Texts. Texts that are indexed together must fit one index entry of PostgreSQL (2,704 bytes), at four bytes a
# character.
MERCHANT_ID = Text(name="a merchant id", longest=100)
MERCHANT_REFERENCE = Text(name="a merchant id", longest=255, characters=Characters.STORABLE)
CUSTOMER_ID = Text(name="a customer id", longest=255)
ORDER_NUMBER = Text(name="an order number", longest=255)
SKU = Text(name="an SKU", longest=255)
LOCATION_ID = Text(name="a location id", longest=100)
JURISDICTION = Text(name="a jurisdiction", longest=100)
TAX_CATEGORY = Text(name="a tax category", longest=100)
OWED_TO = Text(name="where a tax is owed", longest=100, shortest=0)
FEATURE = Text(name="a feature", longest=100)
GRANTOR = Text(name="a grantor", longest=255)
SOURCE = Text(name="a source", longest=100)
PRICE_SOURCE = Text(name="a price's source", longest=100 + len("override:"))
DISCOUNT_CODE = Text(name="a discount's code", longest=255)
REFERENCE = Text(name="a reference", longest=255)
PAYMENT_TOKEN = Text(name="a payment token", longest=8_000)
CURRENCY = Text(name="a currency", longest=3, shortest=3)
AGGREGATE_TYPE = Text(name="a type of aggregate", longest=100)
IDEMPOTENCY_KEY = Text(name="an idempotency key", longest=255)
TITLE = Text(name="a name or title", longest=500, shortest=0, characters=Characters.WRITTEN)
BRAND = Text(name="a brand", longest=100, shortest=0)
DESCRIPTION = Text(name="a description", longest=10_000, shortest=0, characters=Characters.WRITTEN)
ATTRIBUTE_NAME = Text(name="the name of an attribute", longest=100)
ATTRIBUTE_VALUE = Text(name="the value of an attribute", longest=500)
SYNONYM = Text(name="a synonym", longest=100)
NOTE = Text(name="a reason", longest=2_000, shortest=0, characters=Characters.WRITTEN)
STORED_NAME = Text(name="the name of what is there", longest=2_704, characters=Characters.STORABLE)
DIGEST = Text(name="a digest", longest=64)
STATE_TEXT = Text(name="a state", longest=EVENT_BYTES_MAX, characters=Characters.STORABLE)
"""A whole state as JSON, as an event has it."""

UUID = UuidText()

# Numbers.
QUANTITY = Whole(name="the quantity", least=1, most=10**9)
QUANTITY_OR_NONE = Whole(name="the quantity", least=0, most=10**9)
SIGNED_QUANTITY = Whole(name="the quantity", least=-(10**9), most=10**9)
UNIT_PRICE_MICRO = Whole(name="a price in micro-units", least=0, most=AMOUNT_MICRO_MAX)
AMOUNT_MINOR = Whole(name="an amount in minor units", least=1, most=AMOUNT_MINOR_MAX)
AMOUNT_OR_NONE_MINOR = Whole(name="an amount in minor units", least=0, most=AMOUNT_MINOR_MAX)
SIGNED_AMOUNT_MICRO = Whole(name="an amount in micro-units", least=-AMOUNT_MICRO_MAX, most=AMOUNT_MICRO_MAX)
RATE_PPM = Whole(name="a tax rate in parts per million", least=0, most=10_000_000)
LINE_NUMBER = Whole(name="the number of a line", least=1, most=5_000)
LEVEL = Whole(name="a level", least=1, most=10**9)
WAIT_DAYS = Whole(name="a number of days to wait", least=1, most=60)
BATCH = Whole(name="a limit", least=1, most=10_000)
VERSION = Whole(name="a version", least=0, most=10**15)

# Lists.
LINES = Count(name="lines", most=5_000)
DISCOUNTS = Count(name="discounts", most=100)
SHIPPING = Count(name="shipping lines", most=100)
TAX_RATES = Count(name="tax rates", most=1_000)
TAXES_MAX = 10
"""Taxes of one tax category in one jurisdiction."""
VARIANTS = Count(name="variants", most=2_000)
ATTRIBUTES = Count(name="attributes", most=64)
SYNONYMS = Count(name="synonyms", most=1_000)

MOMENT = Moment()

MerchantId = Annotated[str, MERCHANT_ID, MERCHANT_ID.schema]
MerchantReference = Annotated[str, MERCHANT_REFERENCE]
CustomerId = Annotated[str, CUSTOMER_ID, CUSTOMER_ID.schema]
OrderNumber = Annotated[str, ORDER_NUMBER, ORDER_NUMBER.schema]
Sku = Annotated[str, SKU, SKU.schema]
LocationId = Annotated[str, LOCATION_ID, LOCATION_ID.schema]
Jurisdiction = Annotated[str, JURISDICTION, JURISDICTION.schema]
TaxCategory = Annotated[str, TAX_CATEGORY, TAX_CATEGORY.schema]
OwedTo = Annotated[str, OWED_TO, OWED_TO.schema]
Feature = Annotated[str, FEATURE, FEATURE.schema]
Grantor = Annotated[str, GRANTOR, GRANTOR.schema]
Source = Annotated[str, SOURCE, SOURCE.schema]
PriceSource = Annotated[str, PRICE_SOURCE, PRICE_SOURCE.schema]
DiscountCode = Annotated[str, DISCOUNT_CODE, DISCOUNT_CODE.schema]
Reference = Annotated[str, REFERENCE, REFERENCE.schema]
IdempotencyKey = Annotated[str, IDEMPOTENCY_KEY]
PaymentToken = Annotated[str, PAYMENT_TOKEN]
Currency = Annotated[str, CURRENCY, CURRENCY.schema]
AggregateType = Annotated[str, AGGREGATE_TYPE]
Title = Annotated[str, TITLE, TITLE.schema]
Brand = Annotated[str, BRAND, BRAND.schema]
Description = Annotated[str, DESCRIPTION, DESCRIPTION.schema]
AttributeName = Annotated[str, ATTRIBUTE_NAME, ATTRIBUTE_NAME.schema]
AttributeValue = Annotated[str, ATTRIBUTE_VALUE, ATTRIBUTE_VALUE.schema]
SynonymText = Annotated[str, SYNONYM, SYNONYM.schema]
Note = Annotated[str, NOTE, NOTE.schema]
StoredName = Annotated[str, STORED_NAME]
Digest = Annotated[str, DIGEST]
StateText = Annotated[str, STATE_TEXT]
Uuid = Annotated[str, UUID, UUID.schema]
Quantity = Annotated[int, QUANTITY, QUANTITY.schema]
QuantityOrNone = Annotated[int, QUANTITY_OR_NONE, QUANTITY_OR_NONE.schema]
SignedQuantity = Annotated[int, SIGNED_QUANTITY, SIGNED_QUANTITY.schema]
UnitPriceMicro = Annotated[int, UNIT_PRICE_MICRO, UNIT_PRICE_MICRO.schema]
AmountMinor = Annotated[int, AMOUNT_MINOR, AMOUNT_MINOR.schema]
AmountOrNoneMinor = Annotated[int, AMOUNT_OR_NONE_MINOR, AMOUNT_OR_NONE_MINOR.schema]
SignedAmountMicro = Annotated[int, SIGNED_AMOUNT_MICRO, SIGNED_AMOUNT_MICRO.schema]
RatePpm = Annotated[int, RATE_PPM, RATE_PPM.schema]
LineNumber = Annotated[int, LINE_NUMBER, LINE_NUMBER.schema]
Level = Annotated[int, LEVEL, LEVEL.schema]
WaitDays = Annotated[int, WAIT_DAYS, WAIT_DAYS.schema]
Batch = Annotated[int, BATCH]
Version = Annotated[int, VERSION]
At = Annotated[datetime, MOMENT]
