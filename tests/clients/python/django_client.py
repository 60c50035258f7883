"""Django, with psycopg."""

import os

import django
from django.conf import settings
from report import (
    COLUMNS,
    REPEAT,
    TRANSPARENT,
    WORK,
    find,
    native,
    operation,
    print_report,
    shown_rows,
)

settings.configure(
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": os.environ["PGHOST"],
            "PORT": os.environ["PGPORT"],
            "USER": os.environ["PGUSER"],
            "NAME": os.environ["PGDATABASE"],
        }
    },
    USE_TZ=True,
)
django.setup()

from django.db import models  # noqa: E402
from django.db.models import Func  # noqa: E402


# -- recipe
class Decrypted:
    """Mixin of a model's fields, class SecretDate(Decrypted, models.DateField): reads decrypt()."""

    def select_format(self, compiler, sql, params):
        return f"fieldcrypt.decrypt({sql})", params


# -- end


def column(base, **options):
    kind = base if TRANSPARENT else type(base.__name__, (Decrypted, base), {})
    return kind(null=True, **options)


class Customer(models.Model):
    id = models.BigAutoField(primary_key=True)
    name = column(models.TextField)
    email = column(models.EmailField)
    phone = column(models.CharField, max_length=40)
    customer_no = column(models.BigIntegerField, unique=True)
    balance = column(models.DecimalField, max_digits=60, decimal_places=20)
    birthday = column(models.DateField)
    seen = column(models.DateTimeField)
    active = column(models.BooleanField)
    ref = column(models.UUIDField)
    photo = column(models.BinaryField)
    notes = column(models.JSONField)
    data = column(models.JSONField)

    class Meta:
        app_label = "clients"
        db_table = "customer"
        managed = False


class Purchase(models.Model):
    id = models.BigAutoField(primary_key=True)
    customer = models.ForeignKey(Customer, models.CASCADE)
    item = models.TextField()

    class Meta:
        app_label = "clients"
        db_table = "purchase"
        managed = False


def rows(customers):
    return [{name: getattr(customer, name) for name in COLUMNS} for customer in customers]


with operation("insert"):
    Customer(**native(WORK["one"])).save()
with operation("bulk"):
    Customer.objects.bulk_create([Customer(**native(row)) for row in WORK["many"]])

for kind in "text", "bigint", "date", "uuid":
    with operation(f"find {kind}") as done:
        name, value = find(f"find {kind}")
        for _ in range(REPEAT):
            done.result = [customer.name for customer in Customer.objects.filter(**{name: value})]
with operation("find list") as done:
    found = Customer.objects.filter(email__in=WORK["find list"])
    done.result = [customer.name for customer in found]
with operation("read") as done:
    # by a cursor of the server
    done.result = shown_rows(rows(Customer.objects.order_by("id").iterator()))
with operation("sort") as done:
    by = "name" if TRANSPARENT else Func("name", function="fieldcrypt.decrypt")
    done.result = list(Customer.objects.order_by(by).values_list("name", flat=True))
with operation("related") as done:
    bought = Purchase.objects.select_related("customer")
    done.result = [[purchase.item, purchase.customer.name] for purchase in bought]

with operation("update") as done:
    customer = Customer.objects.get(email=WORK["one"]["email"])
    for name, value in native(WORK["changes"]).items():
        setattr(customer, name, value)
    customer.data["stage"] = WORK["stage"]
    customer.save()
    done.result = shown_rows(rows(Customer.objects.filter(email=WORK["one"]["email"])))
print_report()
