"""Made-up people with realistic data: the same ones for the same seed, none of them real.

The numbers are well-formed, check digits included, but from ranges that nobody is given: social
security numbers begin with 9, e-mail addresses end in the reserved domains.
"""

import random
import unicodedata
from dataclasses import dataclass
from datetime import date, timedelta


@dataclass(frozen=True)
class Country:
    code: str
    first_names: tuple
    last_names: tuple
    street: str  # {name} and {number} are filled in
    street_names: tuple
    cities: tuple
    postal_code: str  # each # is a digit
    phone: str  # likewise
    domains: tuple
    bank: str  # what follows the check digits in an IBAN, likewise; "" where there are no IBANs
    given_name_first: bool = True


COUNTRIES = (
    Country(
        "US",
        ("James", "Mary", "Robert", "Patricia", "DeShawn", "Ana-Lucía", "O'Shea", "Mae"),
        ("Smith", "Johnson", "O'Brien", "Garcia", "Nguyen", "Van der Berg", "Washington Jr."),
        "{number} {name}",
        ("Main St", "Oak Avenue, Apt 4\u00bd", "W 42nd St", "Martin Luther King Jr. Blvd"),
        ("Springfield", "San José", "St. Paul", "Coeur d'Alene"),
        "#####-####",
        "+1 (555) ###-####",
        ("example.com", "mail.example.com"),
        "",
    ),
    Country(
        "DE",
        ("Jürgen", "Käthe", "Sören", "Anna-Lena", "Björn", "Öznur", "Hans-Jörg"),
        ("Müller", "Groß", "Weiß", "Schäfer", "von der Tann", "Öztürk", "Yılmaz"),
        "{name} {number}",
        ("Königstraße", "Am Mühlbach", "Straße des 17. Juni", "Goetheplatz"),
        ("Köln", "Düsseldorf", "Frankfurt (Oder)", "Gießen"),
        "#####",
        "+49 30 ########",
        ("beispiel.example", "post.example"),
        "#" * 18,
    ),
    Country(
        "FR",
        ("Élodie", "François", "Zoe\u0301", "Jean-Noël", "Anaïs", "Gwenaël"),
        ("Lefèvre", "D'Artagnan", "Le Goff", "Saint-Exupéry", "Nuñez"),
        "{number} {name}",
        ("rue de l'Église", "avenue des Champs-Élysées", "quai aux Fleurs"),
        ("Orléans", "Saint-Étienne", "L'Haÿ-les-Roses"),
        "#####",
        "+33 6 ## ## ## ##",
        ("courriel.example", "example.org"),
        "#" * 23,
    ),
    Country(
        "BR",
        ("João", "Conceição", "Thaís", "Luís Otávio", "Ângela", "Zé"),
        ("da Silva", "Gonçalves", "Araújo", "dos Santos Filho", "Müller-Brandão"),
        "{name}, {number}",
        ("Rua São João", "Avenida Paulista", "Travessa da Conceição"),
        ("São Paulo", "Florianópolis", "Maceió"),
        "#####-###",
        "+55 11 #####-####",
        ("correio.example", "example.net"),
        "#" * 23 + "P1",
    ),
    Country(
        "PL",
        ("Łukasz", "Małgorzata", "Żaneta", "Wacław", "Święta"),
        ("Wiśniewski", "Dąbrowska", "Żółć", "Kowalczyk-Nowak"),
        "ul. {name} {number}",
        ("Świętojańska", "Długa", "Łódzka"),
        ("Łódź", "Gdańsk", "Bielsko-Biała"),
        "##-###",
        "+48 ### ### ###",
        ("poczta.example", "example.org"),
        "#" * 24,
    ),
    Country(
        "GR",
        ("Γιώργος", "Ελένη", "Σίσυφος", "Ανδρέας"),
        ("Παπαδόπουλος", "Οικονόμου", "Σταματίου"),
        "{name} {number}",
        ("Ερμού", "Λεωφόρος Κηφισίας"),
        ("Αθήνα", "Θεσσαλονίκη"),
        "### ##",
        "+30 21 #### ####",
        ("παράδειγμα.example", "example.com"),
        "#" * 23,
    ),
    Country(
        "JP",
        ("太郎", "花子", "健一", "さくら"),
        ("山田", "佐藤", "髙橋", "𠮷野"),
        "{name}{number}番地",
        ("千代田区丸の内", "中央区銀座"),
        ("東京", "大阪", "札幌"),
        "###-####",
        "+81 90-####-####",
        ("例え.example", "example.com"),
        "",
        given_name_first=False,
    ),
    Country(
        "EG",
        ("محمد", "فاطمة", "أحمد", "نور"),
        ("حسن", "عبد الله", "السيد"),
        "{number} {name}",
        ("شارع التحرير", "شارع النيل"),
        ("القاهرة", "الإسكندرية"),
        "#####",
        "+20 2 #### ####",
        ("example.org", "مثال.example"),
        "#" * 25,
    ),
)
WEIGHTS = (8, 4, 3, 3, 2, 1, 2, 1)
ADULT_BIRTHS = (date(1935, 1, 1), date(2007, 12, 31))


def people(count, seed):
    """`count` people as dicts of text. E-mail, phone, SSN, IBAN, CPF and employee id are unique."""
    chance = random.Random(seed)
    unique = _Unique()
    return [_person(chance, unique, number) for number in range(1, count + 1)]


def _person(chance, unique, number):
    country = chance.choices(COUNTRIES, WEIGHTS)[0]
    first, last = chance.choice(country.first_names), chance.choice(country.last_names)
    names = (first, last) if country.given_name_first else (last, first)
    first_day, last_day = ADULT_BIRTHS
    birth = first_day + timedelta(days=chance.randrange((last_day - first_day).days + 1))
    street = country.street.format(
        name=chance.choice(country.street_names), number=chance.randrange(1, 300)
    )
    return {
        "first_name": first,
        "last_name": last,
        "full_name": " ".join(names),
        "email": f"{_mailbox(first, last)}.{number}@{chance.choice(country.domains)}",
        "phone": unique(lambda: _digits(chance, country.phone)),
        "ssn": unique(lambda: "9" + _digits(chance, "##-##-####")),
        "iban": unique(lambda: _iban(chance, country)),
        "cpf": unique(lambda: _cpf(chance)),
        "birth_date": birth.isoformat(),
        "street": street,
        "city": chance.choice(country.cities),
        "postal_code": _digits(chance, country.postal_code),
        "country": country.code,
        "employee_id": f"E-{number:06d}-{chance.choice('ABCDEFGHJK')}",
    }


class _Unique:
    """Calls a maker of values until one comes that was not there before."""

    def __init__(self):
        self.seen = set()

    def __call__(self, make):
        while (value := make()) in self.seen:
            pass
        self.seen.add(value)
        return value


def _digits(chance, pattern):
    """The pattern with a random digit for each #."""
    return "".join("0123456789"[int(chance.random() * 10)] if c == "#" else c for c in pattern)


def _mailbox(first, last):
    """The local part of an address: without accents, and as it is where nothing is left then."""
    parts = []
    for name in first, last:
        plain = unicodedata.normalize("NFKD", name.replace("ł", "l").replace("Ł", "L"))
        ascii_only = "".join(c for c in plain if c.isascii() and c.isalpha())
        parts.append(ascii_only or name.replace(" ", "_"))
    return ".".join(parts)


def _iban(chance, country):
    """An IBAN, of a German bank for people of countries that have none."""
    code, bank = (country.code, country.bank) if country.bank else ("DE", "#" * 18)
    account = _digits(chance, bank)
    as_number = int("".join(str(int(c, 36)) for c in f"{account}{code}00"))
    return f"{code}{98 - as_number % 97:02d}{account}"


def _cpf(chance):
    """A Brazilian tax number with its two check digits."""
    digits = [chance.randrange(10) for _ in range(9)]
    for _ in range(2):
        total = sum(d * w for d, w in zip(digits, range(len(digits) + 1, 1, -1), strict=True))
        digits.append(total * 10 % 11 % 10)
    text = "".join(map(str, digits))
    return f"{text[:3]}.{text[3:6]}.{text[6:9]}-{text[9:]}"
