// Avro of Go's two libraries, hamba/avro and goavro, on what everlode wrote; see ../README.md.
package main

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"github.com/hamba/avro/v2"
	"github.com/hamba/avro/v2/ocf"
	"github.com/hamba/avro/v2/soe"
	"github.com/linkedin/goavro/v2"
)

type entry struct {
	Type        string          `json:"type"`
	Fingerprint string          `json:"fingerprint"`
	Schema      json.RawMessage `json:"schema"`
}

type given struct {
	Schemas  []entry                    `json:"schemas"`
	Records  []string                   `json:"records"`
	Command  string                     `json:"command"`
	Commands map[string]json.RawMessage `json:"commands"`
}

type made struct {
	Fingerprints map[string]map[string]string `json:"fingerprints"`
	Records      map[string][]string          `json:"records"`
	Container    []string                     `json:"container"`
	Commands     map[string]string            `json:"commands"`
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// Plain JSON as hamba wants it: long numbers, and times where the schema has them.
func native(value any, schema avro.Schema) any {
	switch schema.Type() {
	case avro.Record:
		out := map[string]any{}
		for _, field := range schema.(*avro.RecordSchema).Fields() {
			out[field.Name()] = native(value.(map[string]any)[field.Name()], field.Type())
		}
		return out
	case avro.Array:
		out := []any{}
		for _, item := range value.([]any) {
			out = append(out, native(item, schema.(*avro.ArraySchema).Items()))
		}
		return out
	case avro.Long:
		number := must(value.(json.Number).Int64())
		if schema.(*avro.PrimitiveSchema).Logical() != nil {
			return time.UnixMilli(number).UTC()
		}
		return number
	}
	return value
}

func main() {
	folder := os.Args[1]
	var in given
	if err := json.Unmarshal(must(os.ReadFile(filepath.Join(folder, "input.json"))), &in); err != nil {
		panic(err)
	}
	out := made{
		Fingerprints: map[string]map[string]string{"hamba/avro": {}, "goavro": {}},
		Records:      map[string][]string{}, Commands: map[string]string{},
	}
	hambas, goavros := map[string]avro.Schema{}, map[string]*goavro.Codec{}
	var command entry
	for _, one := range in.Schemas {
		schema := must(avro.ParseWithCache(string(one.Schema), "", &avro.SchemaCache{}))
		codec := must(goavro.NewCodec(string(one.Schema)))
		hambas[one.Fingerprint], goavros[one.Fingerprint] = schema, codec
		mark := must(schema.FingerprintUsing(avro.CRC64AvroLE))
		out.Fingerprints["hamba/avro"][one.Type] = hex.EncodeToString(mark)
		rabin := binary.LittleEndian.AppendUint64(nil, codec.Rabin)
		out.Fingerprints["goavro"][one.Type] = hex.EncodeToString(rabin)
		if one.Type == in.Command {
			command = one
		}
	}
	for _, record := range in.Records {
		data := must(hex.DecodeString(record))
		mark := hex.EncodeToString(data[2:10])
		var value any
		if err := avro.Unmarshal(hambas[mark], data[10:], &value); err != nil {
			panic(err)
		}
		again := append(data[:10:10], must(avro.Marshal(hambas[mark], value))...)
		out.Records["hamba/avro"] = append(out.Records["hamba/avro"], hex.EncodeToString(again))
		read, _, err := goavros[mark].NativeFromBinary(data[10:])
		again = must(goavros[mark].BinaryFromNative(data[:10:10], must(read, err)))
		out.Records["goavro"] = append(out.Records["goavro"], hex.EncodeToString(again))
	}
	container := must(ocf.NewDecoder(must(os.Open(filepath.Join(folder, "container.avro")))))
	for container.HasNext() {
		var value any
		if err := container.Decode(&value); err != nil {
			panic(err)
		}
		body := must(avro.Marshal(container.Schema(), value))
		out.Container = append(out.Container, hex.EncodeToString(body))
	}
	// each library frames the command itself, under the fingerprint that it computes
	decoder := json.NewDecoder(bytes.NewReader(in.Commands["hamba/avro"]))
	decoder.UseNumber()
	var plain any
	if err := decoder.Decode(&plain); err != nil {
		panic(err)
	}
	schema := hambas[command.Fingerprint]
	framed := must(must(soe.NewCodec(schema)).Encode(native(plain, schema)))
	out.Commands["hamba/avro"] = hex.EncodeToString(framed)
	codec := goavros[command.Fingerprint]
	read, _, err := codec.NativeFromTextual(in.Commands["goavro"])
	out.Commands["goavro"] = hex.EncodeToString(must(codec.SingleFromNative(nil, must(read, err))))
	if err := json.NewEncoder(os.Stdout).Encode(out); err != nil {
		panic(err)
	}
}
