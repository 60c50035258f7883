//! tokio-postgres.

use std::pin::pin;
use std::str::FromStr;

use chrono::{DateTime, NaiveDate, Utc};
use fieldcrypt_clients::{
    REPEAT, Report, Result, Work, bytes, date, date_text, done, hex, instant, shown, text,
};
use futures_util::future::join_all;
use rust_decimal::Decimal;
use serde_json::{Map, Value, json};
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{Date, FromSql, ToSql, Type};
use tokio_postgres::{Client, Config, NoTls, Row};
use uuid::Uuid;

type Parameter = Box<dyn ToSql + Sync + Send>;

fn plain_type(kind: &str) -> Type {
    match kind {
        "text" => Type::TEXT,
        "bigint" => Type::INT8,
        "numeric" => Type::NUMERIC,
        "date" => Type::DATE,
        "timestamptz" => Type::TIMESTAMPTZ,
        "boolean" => Type::BOOL,
        "uuid" => Type::UUID,
        "bytea" => Type::BYTEA,
        _ => Type::JSONB,
    }
}

fn native(kind: &str, value: &Value) -> Result<Parameter> {
    fn some<T: ToSql + Sync + Send + 'static>(
        value: &Value,
        parse: impl Fn(&str) -> Result<T>,
    ) -> Result<Parameter> {
        Ok(Box::new(value.as_str().map(parse).transpose()?))
    }
    match kind {
        "text" => some(value, |text| Ok(text.to_owned())),
        "bigint" => some(value, |text| Ok(i64::from_str(text)?)),
        "numeric" => some(value, |text| Ok(Decimal::from_str(text)?)),
        "date" => some(value, |text| Ok(date(text).map_or(Date::PosInfinity, Date::Value))),
        "timestamptz" => some(value, instant),
        "uuid" => some(value, |text| Ok(Uuid::from_str(text)?)),
        "bytea" => some(value, bytes),
        "boolean" => Ok(Box::new(value.as_bool())),
        _ => Ok(Box::new((!value.is_null()).then(|| value.clone()))),
    }
}

/// The values of a row with their plain types.
fn values(work: &Work, row: &Value) -> Result<Vec<(Parameter, Type)>> {
    work.columns
        .iter()
        .map(|(column, kind)| Ok((native(kind, &row[column])?, plain_type(kind))))
        .collect()
}

fn typed(values: &[(Parameter, Type)]) -> Vec<(&(dyn ToSql + Sync), Type)> {
    values.iter().map(|(value, kind)| (&**value as &(dyn ToSql + Sync), kind.clone())).collect()
}

fn read<'a, T: FromSql<'a>>(row: &'a Row, column: &str) -> Result<Option<T>> {
    Ok(row.try_get(column)?)
}

fn shown_row(work: &Work, row: &Row) -> Result<Value> {
    let mut columns = Map::new();
    for (column, kind) in &work.columns {
        let value = match kind.as_str() {
            "text" => shown(read::<String>(row, column)?, Value::from),
            "bigint" => shown(read::<i64>(row, column)?, |v| v.to_string().into()),
            "numeric" => shown(read::<Decimal>(row, column)?, |v| v.to_string().into()),
            "date" => match read::<NaiveDate>(row, column) {
                Ok(date) => shown(date, |date| date_text(date).into()),
                Err(_) => shown(read::<Date<NaiveDate>>(row, column)?, |date| match date {
                    Date::PosInfinity => "infinity".into(),
                    _ => Value::Null,
                }),
            },
            "timestamptz" => shown(read::<DateTime<Utc>>(row, column)?, |v| v.to_rfc3339().into()),
            "boolean" => shown(read::<bool>(row, column)?, Value::from),
            "uuid" => shown(read::<Uuid>(row, column)?, |v| v.to_string().into()),
            "bytea" => shown(read::<Vec<u8>>(row, column)?, |v| hex(&v).into()),
            _ => shown(read::<Value>(row, column)?, |v| v),
        };
        columns.insert(column.clone(), value);
    }
    Ok(Value::Object(columns))
}

fn shown_rows(work: &Work, rows: &[Row]) -> Result<Value> {
    rows.iter().map(|row| shown_row(work, row)).collect()
}

fn names(rows: &[Row]) -> Result<Value> {
    rows.iter().map(|row| Ok(json!(row.try_get::<_, Option<String>>("name")?))).collect()
}

async fn insert(client: &Client, work: &Work) -> Result<Value> {
    let insert = format!("{} VALUES {}", work.insert_into(), work.placeholders(1));
    let row = values(work, &work.work["one"])?;
    client.execute_typed(&insert, &typed(&row)).await?;
    done()
}

async fn returning(client: &Client, work: &Work) -> Result<Value> {
    let insert = format!(
        "{} VALUES {} RETURNING {}",
        work.insert_into(),
        work.placeholders(1),
        work.shown("email")
    );
    let row = values(work, &work.work["returned"])?;
    let returned = client.query_typed_one(&insert, &typed(&row)).await?;
    Ok(shown(read::<String>(&returned, "email")?, Value::from))
}

/// Prepared once, and sent for all rows without waiting in between.
async fn bulk(client: &Client, work: &Work) -> Result<Value> {
    let insert = format!("{} VALUES {}", work.insert_into(), work.placeholders(1));
    let types: Vec<_> = work.columns.iter().map(|(_, kind)| plain_type(kind)).collect();
    let statement = client.prepare_typed(&insert, &types).await?;
    let rows: Vec<_> =
        work.rows("many").iter().map(|row| values(work, row)).collect::<Result<_>>()?;
    let sent = rows.iter().map(|row| {
        client.execute_raw(&statement, row.iter().map(|(value, _)| &**value as &dyn ToSql))
    });
    for inserted in join_all(sent).await {
        inserted?;
    }
    done()
}

async fn copy(client: &Client, work: &Work) -> Result<Value> {
    let types: Vec<_> = work.columns.iter().map(|(_, kind)| plain_type(kind)).collect();
    let columns = work.insert_into().replace("INSERT INTO", "COPY");
    let sink = client.copy_in(&format!("{columns} FROM STDIN (FORMAT binary)")).await?;
    let mut writer = pin!(BinaryCopyInWriter::new(sink, &types));
    for row in work.rows("copied") {
        let row = values(work, row)?;
        writer.as_mut().write_raw(row.iter().map(|(value, _)| &**value as &dyn ToSql)).await?;
    }
    writer.finish().await?;
    done()
}

async fn find(client: &Client, work: &Work, operation: &str) -> Result<Value> {
    let column = text(&work.work[operation]["column"]);
    let kind = work.kind(column);
    let value = native(kind, &work.work[operation]["value"])?;
    let shown = work.shown("name");
    let query = format!("SELECT {shown} FROM customer WHERE {column} = $1");
    let statement = client.prepare_typed(&query, &[plain_type(kind)]).await?;
    let mut found = Vec::new();
    for _ in 0..REPEAT {
        found = client.query(&statement, &[&*value]).await?;
    }
    names(&found)
}

async fn find_list(client: &Client, work: &Work) -> Result<Value> {
    let emails: Vec<_> = work.rows("find list").iter().map(text).collect();
    let query = format!("{} WHERE email = ANY($1)", work.select());
    names(&client.query_typed(&query, &[(&emails, Type::TEXT_ARRAY)]).await?)
}

async fn read_all(client: &Client, work: &Work) -> Result<Value> {
    let query = format!("{} ORDER BY id", work.select());
    shown_rows(work, &client.query(&query, &[]).await?)
}

async fn sort(client: &Client, work: &Work) -> Result<Value> {
    let by = if work.transparent { "name" } else { "fieldcrypt.decrypt(name)" };
    names(&client.query(&format!("{} ORDER BY {by}", work.select()), &[]).await?)
}

async fn related(client: &Client, work: &Work) -> Result<Value> {
    let query = work.select_purchases();
    let rows = client.query(&query, &[]).await?;
    rows.iter()
        .map(|row| Ok(json!([row.try_get::<_, String>(0)?, row.try_get::<_, String>(1)?])))
        .collect()
}

// -- recipe
/// A parameter has its own plain type, whether what it is compared with is encrypted or not.
async fn with_email(client: &Client, select: &str, email: &str) -> Result<Vec<Row>> {
    let query = format!("{select} WHERE email = $1");
    Ok(client.query_typed(&query, &[(&email, Type::TEXT)]).await?)
}
// -- end

async fn update(client: &Client, work: &Work) -> Result<Value> {
    let email = text(&work.work["one"]["email"]);
    let found = with_email(client, &work.select(), email).await?;
    let document = found.first().ok_or("not found")?.try_get("data")?;
    let changes = work.changes(document);
    let mut parameters = vec![(native("text", &json!(email))?, Type::TEXT)];
    for (column, value) in &changes {
        let kind = work.kind(column);
        parameters.push((native(kind, value)?, plain_type(kind)));
    }
    client.execute_typed(&Work::update(&changes), &typed(&parameters)).await?;
    shown_rows(work, &with_email(client, &work.select(), email).await?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let work = Work::read()?;
    let variable = |name| std::env::var(name);
    let (client, connection) = Config::new()
        .host(variable("PGHOST")?)
        .port(variable("PGPORT")?.parse()?)
        .user(variable("PGUSER")?)
        .dbname(variable("PGDATABASE")?)
        .connect(NoTls)
        .await?;
    let connection = tokio::spawn(connection);

    let mut report = Report::default();
    report.add("insert", insert(&client, &work).await);
    report.add("returning", returning(&client, &work).await);
    report.add("bulk", bulk(&client, &work).await);
    report.add("copy", copy(&client, &work).await);
    for operation in ["find text", "find bigint", "find date", "find uuid"] {
        report.add(operation, find(&client, &work, operation).await);
    }
    report.add("find list", find_list(&client, &work).await);
    report.add("read", read_all(&client, &work).await);
    report.add("sort", sort(&client, &work).await);
    report.add("related", related(&client, &work).await);
    report.add("update", update(&client, &work).await);
    report.print();

    drop(client);
    connection.await??;
    Ok(())
}
