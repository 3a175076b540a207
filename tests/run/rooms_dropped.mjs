// `node rooms_dropped.mjs URL TOKEN...`, in a directory that has @livekit/rtc-node: for each line on its standard input connects a
// room with the next token and lets go of it without a disconnect, so that it keeps its sockets. Ends with its standard input.
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const { Room } = createRequire(join(process.cwd(), 'index.js'))('@livekit/rtc-node');
const [url, ...tokens] = process.argv.slice(2);

console.log('ready');
for await (const _ of createInterface({ input: process.stdin })) {
  await new Room().connect(url, tokens.shift(), { autoSubscribe: true, dynacast: false });
  console.log('connected');
}
process.exit(0);
