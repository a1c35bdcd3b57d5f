// Drives the unmodified AWS IoT Device SDK for JavaScript (aws-iot-device-sdk-v2) against a gateway, as a device with a
// certificate: node sdk.js HOST PORT FOLDER THING, where FOLDER is what `tidegate enroll THING` wrote. The thing has two jobs
// pending. Each story says a line when it has come true; the first that does not ends the program, which then says what was
// asked and what came, and when.
'use strict';
const assert = require('assert');
const path = require('path');
const { mqtt, mqtt5, iot, iotshadow, iotjobs } = require('aws-iot-device-sdk-v2');

const [host, port, folder, thingName] = process.argv.slice(2);
const file = (name) => path.join(folder, name);
const patience = 30000; // ms

// diary is what was asked and what came.
const diary = [], began = Date.now();
function note(what) { diary.push(`${String(Date.now() - began).padStart(6)} ms  ${what}`); }

// told notes every call of one of the SDK's clients, and the end of those that are waited for.
function told(client) {
  return new Proxy(client, {
    get(target, name) {
      const v = target[name];
      if (typeof v !== 'function') return v;
      return (...args) => {
        const call = `${String(name)} ${JSON.stringify(args[0])}`.slice(0, 160);
        note(call);
        const r = v.apply(target, args);
        if (r && r.then) r.then(() => note(`done: ${call}`), (e) => note(`${e}: ${call}`));
        return r;
      };
    },
  });
}

// box collects what a callback gets and hands it out in order.
function box(what) {
  const got = [], waiting = [];
  return {
    put(v) { note(`came: ${what}`); const w = waiting.shift(); if (w) w(v); else got.push(v); },
    empty() { return got.length === 0; },
    next() {
      if (got.length) return Promise.resolve(got.shift());
      return new Promise((resolve, reject) => {
        const t = setTimeout(() => reject(new Error(`nothing came: ${what}`)), patience);
        waiting.push((v) => { clearTimeout(t); resolve(v); });
      });
    },
  };
}

async function refused(what, promise, code, message) {
  const err = await promise.then(() => assert.fail(`${what}: was accepted`), (e) => e);
  assert(err.modeledError, `${what}: ${err}`);
  assert.strictEqual(err.modeledError.code, code, what);
  assert(String(err.modeledError.message).includes(message), `${what}: ${err.modeledError.message}`);
}

// connect5 connects over MQTT 5.
async function connect5(clientId) {
  const b = iot.AwsIotMqtt5ClientConfigBuilder.newDirectMqttBuilderWithMtlsFromPath(host, file('device.pem'), file('device.key'));
  b.withCertificateAuthorityFromPath(undefined, file('ca.pem')).withPort(Number(port)).withConnectProperties({ clientId, keepAliveIntervalSeconds: 60 });
  const client = new mqtt5.Mqtt5Client(b.build());
  const up = box('connection');
  client.on('connectionSuccess', () => up.put(undefined));
  client.on('connectionFailure', (e) => up.put(e.error));
  client.start();
  const err = await up.next();
  if (err) throw err;
  return client;
}

async function stop5(client) {
  const down = box('stop');
  client.on('stopped', () => down.put(true));
  client.stop();
  await down.next();
  client.close();
}

// connect3 connects over MQTT 3.1.1.
async function connect3(clientId) {
  const b = iot.AwsIotMqttConnectionConfigBuilder.new_mtls_builder_from_path(file('device.pem'), file('device.key'));
  b.with_certificate_authority_from_path(undefined, file('ca.pem')).with_client_id(clientId).with_endpoint(host).with_port(Number(port)).with_clean_session(true);
  const c = new mqtt.MqttClient().new_connection(b.build());
  await c.connect();
  return c;
}

// shadowsV2 is the request-response client: every call waits for its own answer, streams bring what happens.
async function shadowsV2(client, make, shadowName) {
  const rr = { maxRequestResponseSubscriptions: 6, maxStreamingSubscriptions: 3, operationTimeoutInSeconds: 30 };
  const shadows = told(make(client, rr));
  const call = (op, request) => (shadowName ? shadows[op.replace('Shadow', 'NamedShadow')]({ thingName, shadowName, ...request }) : shadows[op]({ thingName, ...request }));
  const stream = (op) => {
    const s = shadowName ? shadows[op.replace('Shadow', 'NamedShadow')]({ thingName, shadowName }) : shadows[op]({ thingName });
    const got = box(op), open = box(`subscription of ${op}`);
    s.on('incomingPublish', (e) => got.put(e.message));
    s.on('subscriptionStatus', (e) => open.put(e));
    s.open();
    return { got, open, close: () => s.close() };
  };
  const deltas = stream('createShadowDeltaUpdatedStream'), updates = stream('createShadowUpdatedStream');
  await deltas.open.next();
  await updates.open.next();

  await refused('get before there is one', call('getShadow', {}), 404, 'No shadow exists with name');
  const made = await call('updateShadow', { state: { desired: { rpm: 40, mode: 'auto' }, reported: { rpm: 20 } } });
  assert.strictEqual(made.version, 1);
  assert.deepStrictEqual(made.state, { desired: { rpm: 40, mode: 'auto' }, reported: { rpm: 20 } });
  assert(Math.abs(made.timestamp * 1000 - Date.now()) < 300e3, `timestamp ${made.timestamp}`);
  let delta = await deltas.got.next();
  assert.deepStrictEqual(delta.state, { rpm: 40, mode: 'auto' });
  assert.strictEqual(delta.version, 1);
  let doc = await updates.got.next();
  assert.strictEqual(doc.current.version, 1);
  assert(!doc.previous || !doc.previous.version, JSON.stringify(doc));

  // One after the other, since two at once are not safe with this SDK (aws-crt 1.33.1). An update listens on two filters. One
  // that starts when the SUBACK for the first has come and the SUBACK for the second has not still waits for two, as
  // its pending_subscriptions is set to the number of filters and never to that of the missing ones
  // (aws-c-mqtt, source/request-response/request_response_client.c): its log says "acquire subscription result: SUBSCRIBING"
  // and "PENDING_SUBSCRIPTION" behind the first SUBACK, one "RequestSubscribeSuccess" for the operation, no PUBLISH, and
  // AWS_ERROR_MQTT_REQUEST_RESPONSE_TIMEOUT in the end. On a busy machine that was 5 of 724 pairs. shadowsV1 has two at once.
  const second = await call('updateShadow', { state: { reported: { rpm: 40 } } });
  const third = await call('updateShadow', { state: { reported: { mode: 'auto' } } });
  assert.deepStrictEqual([second.version, third.version], [2, 3]);
  assert.strictEqual((await deltas.got.next()).version, 2); // the third agrees
  await updates.got.next();
  doc = await updates.got.next();
  assert.strictEqual(doc.previous.version, 2);
  assert.deepStrictEqual(doc.current.state, { desired: { rpm: 40, mode: 'auto' }, reported: { rpm: 40, mode: 'auto' } });
  const got = await call('getShadow', {});
  assert.strictEqual(got.version, 3);
  assert.deepStrictEqual(got.state.reported, { rpm: 40, mode: 'auto' });
  assert.strictEqual(got.state.delta, undefined);
  assert.strictEqual(typeof got.metadata.reported.rpm.timestamp, 'number');

  await refused('a version that has passed', call('updateShadow', { state: { desired: { rpm: 1 } }, version: 2 }), 409, 'Version conflict');
  await refused('too much', call('updateShadow', { state: { desired: { big: 'x'.repeat(9000) } } }), 413, 'exceeds the maximum size');
  const removed = await call('updateShadow', { state: { desired: null }, version: 3 });
  assert.strictEqual(removed.version, 4);
  await call('deleteShadow', {});
  await refused('get after delete', call('getShadow', {}), 404, 'No shadow exists with name');
  await refused('delete twice', call('deleteShadow', {}), 404, 'No shadow exists with name');
  const again = await call('updateShadow', { state: { reported: { back: true } } });
  assert(again.version > 4, `made anew with version ${again.version}`);
  await call('deleteShadow', {});
  deltas.close();
  updates.close();
  shadows.close();
}

// shadowsV1 is the older client: subscribe to each answer, publish each request.
async function shadowsV1(shadows) {
  const qos = mqtt.QoS.AtLeastOnce, request = { thingName };
  const on = async (name) => {
    const got = box(name);
    await shadows[`subscribeTo${name}`](request, qos, (err, r) => got.put(err || r));
    return got;
  };
  const accepted = await on('UpdateShadowAccepted'), rejected = await on('UpdateShadowRejected'), deltas = await on('ShadowDeltaUpdatedEvents'), updated = await on('ShadowUpdatedEvents');
  const got = await on('GetShadowAccepted'), gone = await on('DeleteShadowAccepted'), none = await on('GetShadowRejected');
  await shadows.publishGetShadow({ thingName, clientToken: 'g1' }, qos);
  let r = await none.next();
  assert.deepStrictEqual([r.code, r.clientToken], [404, 'g1']);
  await shadows.publishUpdateShadow({ thingName, clientToken: 'u1', state: { desired: { level: 3 } } }, qos);
  r = await accepted.next();
  assert.strictEqual(r.clientToken, 'u1');
  const version = r.version;
  r = await deltas.next();
  assert.deepStrictEqual([r.state, r.version, r.clientToken], [{ level: 3 }, version, 'u1']);
  assert.strictEqual((await updated.next()).current.version, version);
  await shadows.publishUpdateShadow({ thingName, clientToken: 'u2', state: { reported: { level: 3 } }, version: version + 7 }, qos);
  r = await rejected.next();
  assert.deepStrictEqual([r.code, r.message, r.clientToken], [409, 'Version conflict', 'u2']);
  await shadows.publishUpdateShadow({ thingName, clientToken: 'u3', state: { reported: { level: 3 } }, version }, qos);
  assert.strictEqual((await accepted.next()).version, version + 1);
  await Promise.all(['u4', 'u5'].map((clientToken) => shadows.publishUpdateShadow({ thingName, clientToken, state: { reported: { [clientToken]: true } } }, qos)));
  const both = [await accepted.next(), await accepted.next()];
  assert.deepStrictEqual(both.map((r) => r.version), [version + 2, version + 3]);
  assert.deepStrictEqual(both.map((r) => r.clientToken).sort(), ['u4', 'u5']);
  await shadows.publishGetShadow({ thingName, clientToken: 'g2' }, qos);
  r = await got.next();
  assert.deepStrictEqual([r.clientToken, r.version, r.state], ['g2', version + 3, { desired: { level: 3 }, reported: { level: 3, u4: true, u5: true } }]);
  assert(deltas.empty(), 'a delta came although the two agree');
  await shadows.publishDeleteShadow({ thingName, clientToken: 'd1' }, qos);
  r = await gone.next();
  assert.deepStrictEqual([r.clientToken, r.version], ['d1', version + 3]);
}

// jobsV2 works through the first pending job.
async function jobsV2(client) {
  const jobs = told(iotjobs.IotJobsClientv2.newFromMqtt5(client, { maxRequestResponseSubscriptions: 6, maxStreamingSubscriptions: 2, operationTimeoutInSeconds: 30 }));
  const changed = box('next job'), open = box('subscription');
  const s = jobs.createNextJobExecutionChangedStream({ thingName });
  s.on('incomingPublish', (e) => changed.put(e.message));
  s.on('subscriptionStatus', (e) => open.put(e));
  s.open();
  await open.next();
  const pending = await jobs.getPendingJobExecutions({ thingName });
  assert.deepStrictEqual(pending.queuedJobs.map((j) => j.jobId), ['first', 'second']);
  assert.strictEqual((pending.inProgressJobs || []).length, 0);
  const seen = await jobs.describeJobExecution({ thingName, jobId: '$next', includeJobDocument: true });
  assert.deepStrictEqual([seen.execution.jobId, seen.execution.jobDocument], ['first', { operation: 'test', n: 1 }]);
  const started = await jobs.startNextPendingJobExecution({ thingName, statusDetails: { step: 'begin' } });
  assert.deepStrictEqual([started.execution.jobId, started.execution.status], ['first', 'IN_PROGRESS']);
  await refused('a version that has passed', jobs.updateJobExecution({ thingName, jobId: 'first', status: 'SUCCEEDED', expectedVersion: 99 }), 'VersionMismatch', '');
  await refused('a job that is not there', jobs.describeJobExecution({ thingName, jobId: 'nobody' }), 'ResourceNotFound', '');
  const done = await jobs.updateJobExecution({ thingName, jobId: 'first', status: 'SUCCEEDED', expectedVersion: started.execution.versionNumber, includeJobExecutionState: true });
  assert.strictEqual(done.executionState.status, 'SUCCEEDED');
  for (let e = await changed.next(); ; e = await changed.next()) {
    if (e.execution && e.execution.jobId === 'second') break;
  }
  s.close();
  jobs.close();
}

// jobsV1 works through the second one.
async function jobsV1(jobs) {
  const qos = mqtt.QoS.AtLeastOnce;
  const started = box('start-next'), updated = box('update'), refusedUpdate = box('rejected'), changed = box('notify');
  await jobs.subscribeToStartNextPendingJobExecutionAccepted({ thingName }, qos, (err, r) => started.put(err || r));
  await jobs.subscribeToUpdateJobExecutionAccepted({ thingName, jobId: 'second' }, qos, (err, r) => updated.put(err || r));
  await jobs.subscribeToUpdateJobExecutionRejected({ thingName, jobId: 'second' }, qos, (err, r) => refusedUpdate.put(err || r));
  await jobs.subscribeToJobExecutionsChangedEvents({ thingName }, qos, (err, r) => changed.put(err || r));
  await jobs.publishStartNextPendingJobExecution({ thingName, clientToken: 's1' }, qos);
  let r = await started.next();
  assert.deepStrictEqual([r.execution.jobId, r.clientToken], ['second', 's1']);
  await jobs.publishUpdateJobExecution({ thingName, jobId: 'second', status: 'SUCCEEDED', expectedVersion: 77 }, qos);
  r = await refusedUpdate.next();
  assert.strictEqual(r.code, 'VersionMismatch');
  await jobs.publishUpdateJobExecution({ thingName, jobId: 'second', status: 'FAILED', clientToken: 'f1', statusDetails: { why: 'test' } }, qos);
  assert.strictEqual((await updated.next()).clientToken, 'f1');
  for (r = await changed.next(); Object.keys(r.jobs || {}).length > 0; r = await changed.next()); // until nothing is pending
}

function say(story) {
  note(`told: ${story}`);
  console.log(story);
}

async function main() {
  let c5 = await connect5(thingName);
  await shadowsV2(c5, iotshadow.IotShadowClientv2.newFromMqtt5);
  say('shadow v2 over MQTT 5');
  await shadowsV2(c5, iotshadow.IotShadowClientv2.newFromMqtt5, 'limits');
  say('named shadow v2 over MQTT 5');
  await jobsV2(c5);
  say('jobs v2 over MQTT 5');
  await stop5(c5);

  const c3 = await connect3(thingName);
  await shadowsV1(told(new iotshadow.IotShadowClient(c3)));
  say('shadow v1 over MQTT 3.1.1');
  await jobsV1(told(new iotjobs.IotJobsClient(c3)));
  say('jobs v1 over MQTT 3.1.1');
  await shadowsV2(c3, iotshadow.IotShadowClientv2.newFromMqtt311, 'older');
  say('named shadow v2 over MQTT 3.1.1');
  await c3.disconnect();

  c5 = await connect5(thingName);
  await shadowsV1(told(iotshadow.IotShadowClient.newFromMqtt5Client(c5)));
  say('shadow v1 over MQTT 5');
  await stop5(c5);
}

main().then(() => process.exit(0), (e) => {
  console.error(e);
  console.error(`what was asked, and what came:\n${diary.join('\n')}`);
  process.exit(1);
});
