// CloudEvents' own SDK for Node on our Kafka records and server-sent events; see ../README.md.
'use strict';

const fs = require('fs');
const path = require('path');
const { CloudEvent, Kafka } = require('cloudevents');

const NAMES = ['id', 'type', 'source', 'subject', 'time'];
const shown = (event) => Object.fromEntries(NAMES.map((name) => [name, event[name]]));

function taken(make) {
  try {
    const event = make();
    event.validate(); // of what comes from Kafka the SDK does so only when it is asked
    return shown(event);
  } catch (error) {
    return { error: error.message };
  }
}

const given = JSON.parse(fs.readFileSync(path.join(process.argv[2], 'input.json')));
const binary = given.binary.map(({ headers, value }) =>
  // kafkajs gives headers as buffers, and the SDK wants text
  taken(() => Kafka.toEvent({ headers, value: Buffer.from(value, 'hex') }))
);
const structured = given.structured.map((text) =>
  taken(() => new CloudEvent(JSON.parse(text)))
);
console.log(JSON.stringify({ binary, structured }));
