//! sqlx.

use std::str::FromStr;

use bigdecimal::BigDecimal;
use chrono::{DateTime, NaiveDate, Utc};
use fieldcrypt_clients::{
    REPEAT, Report, Result, Work, bytes, date, date_text, done, hex, instant, shown, text,
};
use serde_json::{Map, Value, json};
use sqlx::postgres::{PgArguments, PgConnectOptions, PgRow};
use sqlx::{Arguments, AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row};
use uuid::Uuid;

fn bind(arguments: &mut PgArguments, kind: &str, value: &Value) -> Result<()> {
    let text = value.as_str();
    match kind {
        "text" => arguments.add(text),
        "bigint" => arguments.add(text.map(i64::from_str).transpose()?),
        "numeric" => arguments.add(text.map(BigDecimal::from_str).transpose()?),
        "date" => arguments.add(text.map(|text| date(text).ok_or("no date")).transpose()?),
        "timestamptz" => arguments.add(text.map(instant).transpose()?),
        "uuid" => arguments.add(text.map(Uuid::from_str).transpose()?),
        "bytea" => arguments.add(text.map(bytes).transpose()?),
        "boolean" => arguments.add(value.as_bool()),
        _ => arguments.add((!value.is_null()).then_some(value)),
    }
}

/// The values of rows, one row after the other.
fn values(work: &Work, rows: &[Value]) -> Result<PgArguments> {
    let mut arguments = PgArguments::default();
    for row in rows {
        for (column, kind) in &work.columns {
            bind(&mut arguments, kind, &row[column])?;
        }
    }
    Ok(arguments)
}

fn shown_row(work: &Work, row: &PgRow) -> Result<Value> {
    let mut columns = Map::new();
    for (column, kind) in &work.columns {
        let column = column.as_str();
        let value = match kind.as_str() {
            "text" => shown::<String>(row.try_get(column)?, Value::from),
            "bigint" => shown::<i64>(row.try_get(column)?, |v| v.to_string().into()),
            "numeric" => shown::<BigDecimal>(row.try_get(column)?, |v| v.to_plain_string().into()),
            "date" => shown::<NaiveDate>(row.try_get(column)?, |v| date_text(v).into()),
            "timestamptz" => {
                shown::<DateTime<Utc>>(row.try_get(column)?, |v| v.to_rfc3339().into())
            }
            "boolean" => shown::<bool>(row.try_get(column)?, Value::from),
            "uuid" => shown::<Uuid>(row.try_get(column)?, |v| v.to_string().into()),
            "bytea" => shown::<Vec<u8>>(row.try_get(column)?, |v| hex(&v).into()),
            _ => shown::<Value>(row.try_get(column)?, |v| v),
        };
        columns.insert(column.to_owned(), value);
    }
    Ok(Value::Object(columns))
}

fn shown_rows(work: &Work, rows: &[PgRow]) -> Result<Value> {
    rows.iter().map(|row| shown_row(work, row)).collect()
}

fn names(rows: &[PgRow]) -> Result<Value> {
    rows.iter().map(|row| Ok(json!(row.try_get::<Option<String>, _>("name")?))).collect()
}

async fn insert(connection: &mut PgConnection, work: &Work) -> Result<Value> {
    let insert = format!("{} VALUES {}", work.insert_into(), work.placeholders(1));
    let row = values(work, &[work.work["one"].clone()])?;
    sqlx::query_with(AssertSqlSafe(insert), row).execute(connection).await?;
    done()
}

async fn returning(connection: &mut PgConnection, work: &Work) -> Result<Value> {
    let insert = format!(
        "{} VALUES {} RETURNING {}",
        work.insert_into(),
        work.placeholders(1),
        work.shown("email")
    );
    let row = values(work, &[work.work["returned"].clone()])?;
    let returned = sqlx::query_with(AssertSqlSafe(insert), row).fetch_one(connection).await?;
    Ok(shown::<String>(returned.try_get("email")?, Value::from))
}

/// One statement, as sqlx::QueryBuilder::push_values makes it.
async fn bulk(connection: &mut PgConnection, work: &Work) -> Result<Value> {
    let rows = work.rows("many");
    let places: Vec<_> =
        (0..rows.len()).map(|row| work.placeholders(row * work.columns.len() + 1)).collect();
    let insert = format!("{} VALUES {}", work.insert_into(), places.join(", "));
    sqlx::query_with(AssertSqlSafe(insert), values(work, rows)?).execute(connection).await?;
    done()
}

async fn copy(connection: &mut PgConnection, work: &Work) -> Result<Value> {
    let columns = work.insert_into().replace("INSERT INTO", "COPY");
    let statement = format!("{columns} FROM STDIN (FORMAT csv)");
    let mut copy = connection.copy_in_raw(&statement).await?;
    for row in work.rows("copied") {
        let line: Vec<_> =
            work.columns.iter().map(|(column, kind)| csv(kind, &row[column])).collect();
        copy.send(format!("{}\n", line.join(",")).into_bytes()).await?;
    }
    copy.finish().await?;
    done()
}

fn csv(kind: &str, value: &Value) -> String {
    let text = match value {
        Value::Null => return String::new(),
        Value::String(digits) if kind == "bytea" => format!("\\x{digits}"),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    format!("\"{}\"", text.replace('"', "\"\""))
}

async fn find(connection: &mut PgConnection, work: &Work, operation: &str) -> Result<Value> {
    let column = text(&work.work[operation]["column"]);
    let shown = work.shown("name");
    let query = format!("SELECT {shown} FROM customer WHERE {column} = $1");
    let mut found = Vec::new();
    for _ in 0..REPEAT {
        let mut value = PgArguments::default();
        bind(&mut value, work.kind(column), &work.work[operation]["value"])?;
        found = sqlx::query_with(AssertSqlSafe(query.clone()), value)
            .fetch_all(&mut *connection)
            .await?;
    }
    names(&found)
}

async fn find_list(connection: &mut PgConnection, work: &Work) -> Result<Value> {
    let emails: Vec<_> = work.rows("find list").iter().map(text).collect();
    let query = format!("{} WHERE email = ANY($1)", work.select());
    names(&sqlx::query(AssertSqlSafe(query)).bind(emails).fetch_all(connection).await?)
}

async fn read(connection: &mut PgConnection, work: &Work) -> Result<Value> {
    let query = format!("{} ORDER BY id", work.select());
    shown_rows(work, &sqlx::query(AssertSqlSafe(query)).fetch_all(connection).await?)
}

async fn sort(connection: &mut PgConnection, work: &Work) -> Result<Value> {
    let by = if work.transparent { "name" } else { "fieldcrypt.decrypt(name)" };
    let query = format!("{} ORDER BY {by}", work.select());
    names(&sqlx::query(AssertSqlSafe(query)).fetch_all(connection).await?)
}

async fn related(connection: &mut PgConnection, work: &Work) -> Result<Value> {
    let query = work.select_purchases();
    let rows = sqlx::query(AssertSqlSafe(query)).fetch_all(connection).await?;
    rows.iter()
        .map(|row| Ok(json!([row.try_get::<String, _>(0)?, row.try_get::<String, _>(1)?])))
        .collect()
}

async fn update(connection: &mut PgConnection, work: &Work) -> Result<Value> {
    let email = text(&work.work["one"]["email"]);
    let query = format!("{} WHERE email = $1", work.select());
    let found =
        sqlx::query(AssertSqlSafe(query.clone())).bind(email).fetch_one(&mut *connection).await?;
    let changes = work.changes(found.try_get("data")?);
    let mut parameters = PgArguments::default();
    parameters.add(email)?;
    for (column, value) in &changes {
        bind(&mut parameters, work.kind(column), value)?;
    }
    sqlx::query_with(AssertSqlSafe(Work::update(&changes)), parameters)
        .execute(&mut *connection)
        .await?;
    let rows = sqlx::query(AssertSqlSafe(query)).bind(email).fetch_all(connection).await?;
    shown_rows(work, &rows)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let work = Work::read()?;
    // PGHOST and so on
    let mut connection = PgConnectOptions::new().disable_statement_logging().connect().await?;

    let mut report = Report::default();
    report.add("insert", insert(&mut connection, &work).await);
    report.add("returning", returning(&mut connection, &work).await);
    report.add("bulk", bulk(&mut connection, &work).await);
    report.add("copy", copy(&mut connection, &work).await);
    for operation in ["find text", "find bigint", "find date", "find uuid"] {
        report.add(operation, find(&mut connection, &work, operation).await);
    }
    report.add("find list", find_list(&mut connection, &work).await);
    report.add("read", read(&mut connection, &work).await);
    report.add("sort", sort(&mut connection, &work).await);
    report.add("related", related(&mut connection, &work).await);
    report.add("update", update(&mut connection, &work).await);
    report.print();
    connection.close().await?;
    Ok(())
}
