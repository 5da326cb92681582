// A miner in Node that has Kafka, our Avro schemas and docs/format.md, and nothing else of ours.
//
//   npm ci --ignore-scripts && node miner.js BROKER ORIGIN MINER BOOKS [TASKS]
//
// e.g. node miner.js 127.0.0.1:9092 eu.1 node-1 ../../schemas/everlode/events/past 1
//
// It registers, deposits a stake, and solves what it is given until it has solved TASKS (1). It may
// be killed at any moment: its place in the log is its consumer group's, and each command has an
// id of its own, so that one which is sent again is carried out once.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { createHash } = require('node:crypto');
const avro = require('avsc');
const {
  Consumer, FetchIsolationLevels, Producer, compatibilityPartitioner,
} = require('@platformatic/kafka');

// avsc reads a long as a number, and refuses one above 2^53, as our stamps are: BigInt instead
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

// Every schema that there is or was, by the eight bytes that a record begins with. avsc computes no
// such fingerprint: they are read from our list.
function books(folder) {
  const known = new Map();
  const current = new Map();
  for (const name of fs.readdirSync(folder).filter((file) => file.endsWith('.jsonl'))) {
    for (const line of fs.readFileSync(path.join(folder, name), 'utf8').trim().split('\n')) {
      const { type, fingerprint, schema } = JSON.parse(line);
      let made;
      const parsed = () =>
        (made ??= avro.Type.forSchema(schema, { typeHook: hook, wrapUnions: true }));
      known.set(fingerprint, { type, fingerprint, parsed });
      current.set(type, known.get(fingerprint)); // the last line of a type is its newest
    }
  }
  const read = (data) => {
    if (!data || data.length < 10 || data.readUInt16BE(0) !== 0xc301) return {};
    const found = known.get(data.toString('hex', 2, 10));
    return found ? { type: found.type, value: found.parsed().fromBuffer(data.subarray(10)) } : {};
  };
  const write = (type, value) => {
    const { fingerprint, parsed } = current.get(type);
    return Buffer.concat([Buffer.from(`c301${fingerprint}`, 'hex'), parsed().toBuffer(value)]);
  };
  return { read, write };
}

async function main(broker, origin, name, folder, tasks = '1') {
  const { read, write } = books(folder);
  const [region] = origin.split('.');
  const id = `${region}/${name}`;
  // a broker that has just started refuses groups for a while: half a minute of patience
  const common = { clientId: name, bootstrapBrokers: [broker], retries: 30, retryDelay: 1000 };
  // keys choose partitions by murmur2 as in Java; the library's own default differs for some counts
  const producer = new Producer({ ...common, partitioner: compatibilityPartitioner });
  const consumer = new Consumer({ ...common, groupId: `miner.${name}` });

  // returns once the command is stored; its answer comes by the replies topic
  async function send(component, key, type, command, fields) {
    const header = {
      command_id: command, aggregate_id: key, issued_by: id, reply_to: id,
      issued_at: BigInt(Date.now()), correlation_id: command, causation_id: null,
    };
    const value = write(type, { header, ...fields });
    const topic = `${region}.commands.${component}`;
    await producer.send({ messages: [{ topic, key: Buffer.from(key), value }] });
  }

  async function solve({ task_id: task, first_attempt: attempt, payload_sha256: payload }) {
    const command = `solve-${task}-${attempt}`; // the same when it comes again
    const solution = createHash('sha256').update(payload).digest('hex'); // a stand-in
    await send('tasks', task, 'SubmitSolution', command, {
      miner_id: id, attempt, solution_id: `s-${task.slice(task.indexOf('/') + 1)}-${attempt}`,
      solution_uri: `s3://mine/${solution}`, solution_sha256: solution, solution_bytes: 64n,
      work_ms: 5000n,
    });
    return command;
  }

  const stream = await consumer.consume({
    topics: [`${region}.replies`, `work.${origin}`], // what miners have, not all facts
    mode: 'committed',
    fallbackMode: 'latest', // a new group begins with what comes from now on
    isolationLevel: FetchIsolationLevels.READ_COMMITTED, // it is written in transactions
    autocommit: false,
  });
  await send('miners', id, 'RegisterMiner', `register-${id}`, {
    operator_id: id, endpoint: '127.0.0.1:9000', specialties: ['evaluation'], gpus: 1n,
    gpu_model: '', cpu_milli: 1000n, memory_mib: 1024n, max_concurrent: 1n,
  });
  await send('miners', id, 'DepositStake', `first-stake-${id}`, { amount_micro: 10_000_000n });

  const solves = new Set();
  let wanted = Number(tasks);
  for await (const message of stream) {
    const { type, value } = read(message.value);
    if (type === 'AssignedTask' && value.miner_id === id) {
      console.log(`assigned ${value.task_id}`);
      solves.add(await solve(value));
    }
    if (type === 'CommandAnswered' && value.reply_to === id) {
      console.log([value.command_id, value.outcome, value.code, value.message].join(' ').trim());
      for (const fact of value.facts) console.log(`${fact.event_type} on ${fact.topic}`);
      if (solves.has(value.command_id)) wanted -= 1;
    }
    await message.commit(); // what was handled, only now
    if (wanted === 0) break;
  }
  await consumer.close(true);
  await producer.close(true);
}

if (process.argv.length < 6) {
  console.error('node miner.js BROKER ORIGIN MINER BOOKS [TASKS]');
  process.exit(2);
}
main(...process.argv.slice(2)).catch((error) => {
  console.error(`error: ${error.message}`);
  process.exit(1);
});
