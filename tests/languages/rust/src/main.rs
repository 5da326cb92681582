//! Avro of Rust's library, apache-avro, on what everlode wrote; see ../../README.md.

use apache_avro::rabin::Rabin;
use apache_avro::types::Value;
use apache_avro::{from_avro_datum, to_avro_datum, GenericSingleObjectWriter, Reader, Schema};
use serde_json::{json, Map, Value as Json};
use std::collections::HashMap;
use std::fs::File;

const LIBRARY: &str = "apache-avro";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(byte).collect()
}

/// Avro's JSON names the branch of a union; apache-avro wants the value alone.
fn plain(value: &Json) -> Json {
    match value {
        Json::Object(fields) if fields.len() == 1 && fields.contains_key("string") => {
            fields["string"].clone()
        }
        Json::Object(fields) => {
            Json::Object(fields.iter().map(|(name, part)| (name.clone(), plain(part))).collect())
        }
        Json::Array(items) => Json::Array(items.iter().map(plain).collect()),
        other => other.clone(),
    }
}

fn main() {
    let folder = std::env::args().nth(1).expect("a folder");
    let input = File::open(format!("{folder}/input.json")).unwrap();
    let given: Json = serde_json::from_reader(input).unwrap();
    let mut schemas = HashMap::new();
    let mut fingerprints = Map::new();
    let mut command = None;
    for entry in given["schemas"].as_array().unwrap() {
        let schema = Schema::parse(&entry["schema"]).unwrap();
        let name = entry["type"].as_str().unwrap();
        let mark = schema.fingerprint::<Rabin>().to_string();
        fingerprints.insert(name.into(), mark.into());
        if entry["type"] == given["command"] {
            command = Some(schema.clone());
        }
        schemas.insert(entry["fingerprint"].as_str().unwrap().to_string(), schema);
    }
    let mut records = vec![];
    for record in given["records"].as_array().unwrap() {
        let data = bytes(record.as_str().unwrap());
        let schema = &schemas[&hex(&data[2..10])];
        let value = from_avro_datum(schema, &mut &data[10..], None).unwrap();
        let body = to_avro_datum(schema, value).unwrap();
        records.push(hex(&[&data[..10], &body[..]].concat()));
    }
    let mut container = vec![];
    let reader = Reader::new(File::open(format!("{folder}/container.avro")).unwrap()).unwrap();
    let written = reader.writer_schema().clone();
    for value in reader {
        container.push(hex(&to_avro_datum(&written, value.unwrap()).unwrap()));
    }
    // the library frames the command itself, under the fingerprint that it computes
    let schema = command.expect("the command's schema");
    let value = Value::from(plain(&given["commands"][LIBRARY])).resolve(&schema).unwrap();
    let mut framed = vec![];
    let mut writer = GenericSingleObjectWriter::new_with_capacity(&schema, 1024).unwrap();
    writer.write_value_ref(&value, &mut framed).unwrap();
    let made = json!({
        "fingerprints": {LIBRARY: fingerprints},
        "records": {LIBRARY: records},
        "container": container,
        "commands": {LIBRARY: hex(&framed)},
    });
    println!("{made}");
}
