// Avro of Node's library, avsc, on what everlode wrote; see ../README.md.
'use strict';

const fs = require('fs');
const path = require('path');
const avro = require('avsc');
const fzstd = require('fzstd');

const LIBRARY = 'avsc';
// avsc reads a long as a number, and fails above 2^53, where our stamps are: BigInt instead
const long = avro.types.LongType.__with({
  fromBuffer: (bytes) => bytes.readBigInt64LE(),
  toBuffer: (value) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigInt64LE(value);
    return bytes;
  },
  fromJSON: BigInt,
  toJSON: Number,
  isValid: (value) => typeof value === 'bigint',
  compare: (a, b) => (a === b ? 0 : a < b ? -1 : 1),
});
const hook = (schema) => (schema === 'long' || schema.type === 'long' ? long : undefined);
const parse = (schema) => avro.Type.forSchema(schema, { typeHook: hook, wrapUnions: true });
const zstandard = (block, done) => done(null, Buffer.from(fzstd.decompress(block)));

async function container(file) {
  const found = [];
  let type;
  const decoder = new avro.streams.BlockDecoder({
    parseHook: (schema) => (type = parse(schema)),
    codecs: { zstandard },
  });
  for await (const value of fs.createReadStream(file).pipe(decoder)) {
    found.push(type.toBuffer(value).toString('hex'));
  }
  return found;
}

async function main(folder) {
  const given = JSON.parse(fs.readFileSync(path.join(folder, 'input.json')));
  const types = new Map(given.schemas.map((s) => [s.fingerprint, parse(s.schema)]));
  const records = given.records.map((hex) => {
    const data = Buffer.from(hex, 'hex');
    const type = types.get(data.toString('hex', 2, 10));
    const body = type.toBuffer(type.fromBuffer(data.subarray(10)));
    return Buffer.concat([data.subarray(0, 10), body]).toString('hex');
  });
  // avsc computes no such fingerprint: it is taken from the list
  const { fingerprint } = given.schemas.find((s) => s.type === given.command);
  const type = types.get(fingerprint);
  const command = type.fromString(JSON.stringify(given.commands[LIBRARY]));
  const framed = Buffer.concat([Buffer.from('c301' + fingerprint, 'hex'), type.toBuffer(command)]);
  return {
    fingerprints: {},
    records: { [LIBRARY]: records },
    container: await container(path.join(folder, 'container.avro')),
    commands: { [LIBRARY]: framed.toString('hex') },
  };
}

main(process.argv[2]).then((made) => console.log(JSON.stringify(made)));
