// `node rooms_dropped.mjs URL PAUSE_S TOKEN...`, in a directory that has @livekit/rtc-node: connects a room with each token and lets
// go of it without a disconnect, so that it keeps its sockets.
import { createRequire } from 'node:module';
import { join } from 'node:path';

const { Room } = createRequire(join(process.cwd(), 'index.js'))('@livekit/rtc-node');
const [url, pauseS, ...tokens] = process.argv.slice(2);
const pause = () => new Promise((resolve) => setTimeout(resolve, Number(pauseS) * 1000));

console.log('ready');
for (const token of tokens) {
  await pause();
  await new Room().connect(url, token, { autoSubscribe: true, dynacast: false });
  console.log('connected');
}
await pause();
process.exit(0);
