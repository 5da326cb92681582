// Avro of Java's library, Apache Avro, on what everlode wrote; see ../README.md.

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.avro.Schema;
import org.apache.avro.SchemaNormalization;
import org.apache.avro.file.DataFileReader;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;
import org.apache.avro.message.BinaryMessageEncoder;

public class Main {
  static final String LIBRARY = "java";
  static final HexFormat HEX = HexFormat.of();

  static byte[] body(Schema schema, GenericRecord record) throws Exception {
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    BinaryEncoder encoder = EncoderFactory.get().binaryEncoder(out, null);
    new GenericDatumWriter<GenericRecord>(schema).write(record, encoder);
    encoder.flush();
    return out.toByteArray();
  }

  public static void main(String[] arguments) throws Exception {
    File folder = new File(arguments[0]);
    ObjectMapper json = new ObjectMapper();
    JsonNode given = json.readTree(new File(folder, "input.json"));
    Map<String, Schema> schemas = new TreeMap<>();
    Map<String, String> fingerprints = new TreeMap<>();
    Schema command = null;
    for (JsonNode entry : given.get("schemas")) {
      Schema schema = new Schema.Parser().parse(entry.get("schema").toString());
      schemas.put(entry.get("fingerprint").asText(), schema);
      byte[] mark = SchemaNormalization.parsingFingerprint("CRC-64-AVRO", schema);
      fingerprints.put(entry.get("type").asText(), HEX.formatHex(mark));
      if (entry.get("type").equals(given.get("command"))) command = schema;
    }
    List<String> records = new ArrayList<>();
    for (JsonNode record : given.get("records")) {
      String hex = record.asText();
      byte[] data = HEX.parseHex(hex);
      Schema schema = schemas.get(hex.substring(4, 20));
      var decoder = DecoderFactory.get().binaryDecoder(data, 10, data.length - 10, null);
      GenericRecord value = new GenericDatumReader<GenericRecord>(schema).read(null, decoder);
      records.add(hex.substring(0, 20) + HEX.formatHex(body(schema, value)));
    }
    List<String> container = new ArrayList<>();
    File file = new File(folder, "container.avro");
    try (var reader = new DataFileReader<>(file, new GenericDatumReader<GenericRecord>())) {
      for (GenericRecord value : reader) {
        container.add(HEX.formatHex(body(reader.getSchema(), value)));
      }
    }
    // the library frames the command itself, under the fingerprint that it computes
    String text = given.get("commands").get(LIBRARY).toString();
    var decoder = DecoderFactory.get().jsonDecoder(command, text);
    GenericRecord value = new GenericDatumReader<GenericRecord>(command).read(null, decoder);
    ByteBuffer framed = new BinaryMessageEncoder<GenericRecord>(GenericData.get(), command).encode(value);
    byte[] bytes = new byte[framed.remaining()];
    framed.get(bytes);
    System.out.println(
        json.writeValueAsString(
            Map.of(
                "fingerprints", Map.of(LIBRARY, fingerprints),
                "records", Map.of(LIBRARY, records),
                "container", container,
                "commands", Map.of(LIBRARY, HEX.formatHex(bytes)))));
  }
}
