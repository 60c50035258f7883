"""SQLAlchemy, with psycopg."""

from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from report import (
    COLUMNS,
    REPEAT,
    TRANSPARENT,
    WORK,
    find,
    native,
    operation,
    print_report,
    shown,
    shown_rows,
)
from sqlalchemy import ForeignKey, create_engine, func, insert, select, types
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, joinedload, mapped_column, relationship


# -- recipe
class Decrypted(types.TypeDecorator):
    """A column that is read through decrypt(): mapped_column(Decrypted(types.Date))."""

    impl = types.NullType
    cache_ok = True

    def __init__(self, plain):
        super().__init__()
        self.plain = types.to_instance(plain)

    def load_dialect_impl(self, dialect):
        return dialect.type_descriptor(self.plain)

    def column_expression(self, column):
        return func.fieldcrypt.decrypt(column)


# -- end


def column(plain):
    return mapped_column(plain if TRANSPARENT else Decrypted(plain))


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customer"

    id: Mapped[int] = mapped_column(types.BigInteger, primary_key=True)
    name: Mapped[str | None] = column(types.Text)
    email: Mapped[str | None] = column(types.String(320))
    phone: Mapped[str | None] = column(types.Text)
    customer_no: Mapped[int | None] = column(types.BigInteger)
    balance: Mapped[Decimal | None] = column(types.Numeric)
    birthday: Mapped[date | None] = column(types.Date)
    seen: Mapped[datetime | None] = column(types.DateTime(timezone=True))
    active: Mapped[bool | None] = column(types.Boolean)
    ref: Mapped[UUID | None] = column(types.Uuid)
    photo: Mapped[bytes | None] = column(types.LargeBinary)
    notes: Mapped[dict | None] = column(JSONB(none_as_null=True))
    data: Mapped[dict | None] = column(JSONB(none_as_null=True))


class Purchase(Base):
    __tablename__ = "purchase"

    id: Mapped[int] = mapped_column(types.BigInteger, primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey(Customer.id))
    item: Mapped[str]
    customer: Mapped[Customer] = relationship()


def rows(customers):
    return [{name: getattr(customer, name) for name in COLUMNS} for customer in customers]


engine = create_engine("postgresql+psycopg://")
with Session(engine) as session:
    with operation("insert"), session.begin():
        session.add(Customer(**native(WORK["one"])))
    with operation("returning") as done, session.begin():
        statement = insert(Customer).values(native(WORK["returned"])).returning(Customer.email)
        done.result = shown(session.scalar(statement))
    with operation("bulk"), session.begin():
        session.add_all([Customer(**native(row)) for row in WORK["many"]])

    for kind in "text", "bigint", "date", "uuid":
        with operation(f"find {kind}") as done, session.begin():
            name, value = find(f"find {kind}")
            query = select(Customer.name).where(getattr(Customer, name) == value)
            for _ in range(REPEAT):
                done.result = session.scalars(query).all()
    with operation("find list") as done, session.begin():
        query = select(Customer.name).where(Customer.email.in_(WORK["find list"]))
        done.result = session.scalars(query).all()
    with operation("read") as done, session.begin():
        done.result = shown_rows(rows(session.scalars(select(Customer).order_by(Customer.id))))
    with operation("sort") as done, session.begin():
        by = Customer.name if TRANSPARENT else func.fieldcrypt.decrypt(Customer.name)
        done.result = session.scalars(select(Customer.name).order_by(by)).all()
    with operation("related") as done, session.begin():
        query = select(Purchase).options(joinedload(Purchase.customer))
        done.result = [[bought.item, bought.customer.name] for bought in session.scalars(query)]

    with operation("update") as done:
        ann = select(Customer).where(Customer.email == WORK["one"]["email"])
        with session.begin():
            customer = session.scalars(ann).one()
            for name, value in native(WORK["changes"]).items():
                setattr(customer, name, value)
            customer.data = {**customer.data, "stage": WORK["stage"]}
        with session.begin():
            done.result = shown_rows(rows(session.scalars(ann)))
print_report()
