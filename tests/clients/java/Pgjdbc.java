// pgjdbc.

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.gson.JsonPrimitive;
import java.io.InputStreamReader;
import java.io.StringReader;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Types;
import java.time.Instant;
import java.time.LocalDate;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HexFormat;
import java.util.List;
import java.util.UUID;
import org.postgresql.PGConnection;
import org.postgresql.util.PGobject;

public class Pgjdbc {
    /** So that the driver prepares the statement, and the server makes a generic plan. */
    static final int REPEAT = 12;

    static final JsonObject results = new JsonObject();
    static JsonObject work;
    static boolean transparent;
    static List<String> columns;
    static Connection connection;

    interface Operation {
        JsonElement run() throws Exception;
    }

    /** Records what an operation returns, or its error. */
    static void operation(String name, Operation operation) {
        try {
            results.add(name, operation.run());
        } catch (Exception error) {
            JsonObject failed = new JsonObject();
            failed.addProperty("error", error.toString());
            results.add(name, failed);
        }
    }

    static JsonElement done() {
        return new JsonPrimitive("done");
    }

    static String kind(String column) {
        return work.getAsJsonObject("columns").get(column).getAsString();
    }

    static void set(PreparedStatement statement, int at, String column, JsonElement value)
            throws SQLException {
        String kind = kind(column);
        if (value.isJsonNull()) {
            statement.setNull(at, typeOf(kind));
            return;
        }
        switch (kind) {
            case "text" -> statement.setString(at, value.getAsString());
            case "bigint" -> statement.setLong(at, Long.parseLong(value.getAsString()));
            case "numeric" -> statement.setBigDecimal(at, new BigDecimal(value.getAsString()));
            case "date" -> statement.setObject(at, date(value.getAsString()));
            case "timestamptz" -> statement.setObject(
                    at, Instant.parse(value.getAsString()).atOffset(ZoneOffset.UTC));
            case "boolean" -> statement.setBoolean(at, value.getAsBoolean());
            case "uuid" -> statement.setObject(at, UUID.fromString(value.getAsString()));
            case "bytea" -> statement.setBytes(at, HexFormat.of().parseHex(value.getAsString()));
            default -> statement.setObject(at, jsonb(value));
        }
    }

    static int typeOf(String kind) {
        return switch (kind) {
            case "text" -> Types.VARCHAR;
            case "bigint" -> Types.BIGINT;
            case "numeric" -> Types.NUMERIC;
            case "date" -> Types.DATE;
            case "timestamptz" -> Types.TIMESTAMP_WITH_TIMEZONE;
            case "boolean" -> Types.BOOLEAN;
            case "bytea" -> Types.BINARY;
            default -> Types.OTHER;
        };
    }

    static LocalDate date(String text) {
        if (text.equals("infinity")) {
            return LocalDate.MAX;
        }
        if (text.endsWith(" BC")) {
            LocalDate date = LocalDate.parse(text.substring(0, text.length() - 3));
            return date.withYear(1 - date.getYear());
        }
        return LocalDate.parse(text);
    }

    static String text(LocalDate date) {
        if (date.equals(LocalDate.MAX)) {
            return "infinity";
        }
        return date.format(DateTimeFormatter.ofPattern("yyyy-MM-dd"))
                + (date.getYear() > 0 ? "" : " BC");
    }

    static PGobject jsonb(JsonElement value) throws SQLException {
        PGobject object = new PGobject();
        object.setType("jsonb");
        object.setValue(value.toString());
        return object;
    }

    static void setRow(PreparedStatement statement, JsonElement row) throws SQLException {
        for (int n = 0; n < columns.size(); n++) {
            String column = columns.get(n);
            set(statement, n + 1, column, row.getAsJsonObject().get(column));
        }
    }

    /** The value of a column with its type, or null. */
    static JsonElement shown(ResultSet rows, String column) throws SQLException {
        Object value = switch (kind(column)) {
            case "date" -> rows.getObject(column, LocalDate.class);
            case "timestamptz" -> rows.getObject(column, OffsetDateTime.class);
            default -> rows.getObject(column);
        };
        if (value == null) {
            return JsonNull.INSTANCE;
        }
        JsonArray shown = new JsonArray();
        shown.add(value.getClass().getSimpleName());
        if (value instanceof Boolean bool) {
            shown.add(bool);
        } else if (value instanceof PGobject json && json.getType().equals("jsonb")) {
            shown.add(JsonParser.parseString(json.getValue()));
        } else if (value instanceof byte[] bytes) {
            shown.add(HexFormat.of().formatHex(bytes));
        } else if (value instanceof LocalDate date) {
            shown.add(text(date));
        } else if (value instanceof BigDecimal number) {
            shown.add(number.toPlainString());
        } else if (value instanceof OffsetDateTime instant) {
            shown.add(instant.toInstant().toString());
        } else {
            shown.add(value.toString());
        }
        return shown;
    }

    static JsonArray shownRows(ResultSet rows) throws SQLException {
        JsonArray shown = new JsonArray();
        while (rows.next()) {
            JsonObject row = new JsonObject();
            for (String column : columns) {
                row.add(column, shown(rows, column));
            }
            shown.add(row);
        }
        return shown;
    }

    static JsonArray names(ResultSet rows) throws SQLException {
        JsonArray names = new JsonArray();
        while (rows.next()) {
            names.add(rows.getString("name"));
        }
        return names;
    }

    static String read(String column) {
        return transparent ? column : "fieldcrypt.decrypt(" + column + ") AS " + column;
    }

    static String select() {
        List<String> list = columns.stream().map(Pgjdbc::read).toList();
        return "SELECT " + String.join(", ", list) + " FROM customer";
    }

    static String insert() {
        return "INSERT INTO customer (" + String.join(", ", columns) + ") VALUES ("
                + String.join(", ", Collections.nCopies(columns.size(), "?")) + ")";
    }

    static JsonElement insertOne() throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(insert())) {
            setRow(statement, work.get("one"));
            statement.executeUpdate();
        }
        return done();
    }

    /** With transparent reads by generated keys, for which the driver adds RETURNING. */
    static JsonElement returning() throws SQLException {
        try (PreparedStatement statement = transparent
                ? connection.prepareStatement(insert(), Statement.RETURN_GENERATED_KEYS)
                : connection.prepareStatement(insert() + " RETURNING " + read("email"))) {
            setRow(statement, work.get("returned"));
            statement.execute();
            ResultSet rows = transparent ? statement.getGeneratedKeys() : statement.getResultSet();
            rows.next();
            return shown(rows, "email");
        }
    }

    static JsonElement bulk() throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(insert())) {
            for (JsonElement row : work.getAsJsonArray("many")) {
                setRow(statement, row);
                statement.addBatch();
            }
            statement.executeBatch();
        }
        return done();
    }

    static JsonElement copy() throws Exception {
        StringBuilder lines = new StringBuilder();
        for (JsonElement row : work.getAsJsonArray("copied")) {
            List<String> values = new ArrayList<>();
            for (String column : columns) {
                values.add(csv(kind(column), row.getAsJsonObject().get(column)));
            }
            lines.append(String.join(",", values)).append("\n");
        }
        String statement = "COPY customer (" + String.join(", ", columns)
                + ") FROM STDIN (FORMAT csv)";
        connection.unwrap(PGConnection.class).getCopyAPI()
                .copyIn(statement, new StringReader(lines.toString()));
        return done();
    }

    static String csv(String kind, JsonElement value) {
        if (value.isJsonNull()) {
            return "";
        }
        String text = value.isJsonPrimitive() ? value.getAsString() : value.toString();
        return '"' + (kind.equals("bytea") ? "\\x" : "") + text.replace("\"", "\"\"") + '"';
    }

    static JsonElement find(String name) throws SQLException {
        String column = work.getAsJsonObject(name).get("column").getAsString();
        String query = "SELECT " + read("name") + " FROM customer WHERE " + column + " = ?";
        try (PreparedStatement statement = connection.prepareStatement(query)) {
            JsonElement found = null;
            for (int n = 0; n < REPEAT; n++) {
                set(statement, 1, column, work.getAsJsonObject(name).get("value"));
                found = names(statement.executeQuery());
            }
            return found;
        }
    }

    static JsonElement findList() throws SQLException {
        List<String> emails = new ArrayList<>();
        work.getAsJsonArray("find list").forEach(email -> emails.add(email.getAsString()));
        String query = select() + " WHERE email = ANY (?)";
        try (PreparedStatement statement = connection.prepareStatement(query)) {
            statement.setArray(1, connection.createArrayOf("varchar", emails.toArray()));
            return names(statement.executeQuery());
        }
    }

    static JsonElement related(Statement statement) throws SQLException {
        ResultSet rows = statement.executeQuery("SELECT item, " + read("name")
                + " FROM purchase JOIN customer ON customer.id = purchase.customer_id");
        JsonArray bought = new JsonArray();
        while (rows.next()) {
            JsonArray row = new JsonArray();
            row.add(rows.getString(1));
            row.add(rows.getString(2));
            bought.add(row);
        }
        return bought;
    }

    static JsonElement update() throws SQLException {
        JsonObject changes = work.getAsJsonObject("changes");
        try (PreparedStatement ofAnn = connection.prepareStatement(select() + " WHERE email = ?")) {
            set(ofAnn, 1, "email", work.getAsJsonObject("one").get("email"));
            ResultSet rows = ofAnn.executeQuery();
            rows.next();
            JsonObject document = JsonParser.parseString(rows.getString("data")).getAsJsonObject();
            document.add("stage", work.get("stage"));
            changes.add("data", document);

            List<String> changed = List.copyOf(changes.keySet());
            String pairs = String.join(" = ?, ", changed) + " = ?";
            String query = "UPDATE customer SET " + pairs + " WHERE email = ?";
            try (PreparedStatement statement = connection.prepareStatement(query)) {
                for (int n = 0; n < changed.size(); n++) {
                    set(statement, n + 1, changed.get(n), changes.get(changed.get(n)));
                }
                JsonElement email = work.getAsJsonObject("one").get("email");
                set(statement, changed.size() + 1, "email", email);
                statement.executeUpdate();
            }
            return shownRows(ofAnn.executeQuery());
        }
    }

    public static void main(String[] arguments) throws Exception {
        InputStreamReader input = new InputStreamReader(System.in, StandardCharsets.UTF_8);
        work = JsonParser.parseReader(input).getAsJsonObject();
        transparent = work.get("mode").getAsString().equals("transparent");
        columns = List.copyOf(work.getAsJsonObject("columns").keySet());
        String url = "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT")
                + "/" + System.getenv("PGDATABASE") + "?reWriteBatchedInserts=true";
        connection = DriverManager.getConnection(url, System.getenv("PGUSER"), "");

        operation("insert", Pgjdbc::insertOne);
        operation("returning", Pgjdbc::returning);
        operation("bulk", Pgjdbc::bulk);
        operation("copy", Pgjdbc::copy);
        for (String name : List.of("find text", "find bigint", "find date", "find uuid")) {
            operation(name, () -> find(name));
        }
        operation("find list", Pgjdbc::findList);
        try (Statement statement = connection.createStatement()) {
            String by = transparent ? "name" : "fieldcrypt.decrypt(name)";
            operation("read",
                    () -> shownRows(statement.executeQuery(select() + " ORDER BY id")));
            operation("sort",
                    () -> names(statement.executeQuery(select() + " ORDER BY " + by)));
            operation("related", () -> related(statement));
        }
        operation("update", Pgjdbc::update);
        connection.close();
        System.out.write(results.toString().getBytes(StandardCharsets.UTF_8));
        System.out.println();
    }
}
