/**
 * Downloads with every kind of fault: connections that end, stop and lie. `HUB_FAULTS=1000` adds more of them, and
 * `HUB_SEED` changes them.
 */
import {existsSync, mkdtempSync, readFileSync, rmSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {type ByteRange} from '../../src/base/byte_source';
import {hubOf} from '../../src/hub/all';
import {downloadFiles} from '../../src/hub/download';
import {type HubModel} from '../../src/hub/hub';
import {Requests} from '../../src/hub/requests';
import {type Fault, FAULTS, HubServer, SECRET, SIGNATURE} from '../support/hub_server';
import {randomBytes, randomNumbers} from '../support/random_bytes';

const WANTED = Number(process.env.HUB_FAULTS ?? 200);
const SEED = Number(process.env.HUB_SEED ?? 1);

/** Faults that are answers of the hub itself, so that a download ends with them. It continues later. */
const FINAL = new Set<Fault>([403, 404]);

const journal = (path: string): ByteRange[] =>
  !existsSync(path)
    ? []
    : [...readFileSync(path, 'utf8').matchAll(/^(\d+) (\d+)$/gm)].map(([, start, end]) => ({
        start: Number(start),
        end: Number(end),
      }));

test(`${WANTED} faults`, async () => {
  const random = randomNumbers(SEED);
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)]!;
  const before = process.env;
  const server = await new HubServer().start();
  const counts = new Map<Fault, number>();
  const errors: string[] = [];
  let faults = 0;
  let attempts = 0;
  try {
    for (let round = 0; faults < WANTED; round++) {
      const root = mkdtempSync(join(tmpdir(), 'gemma3-faults-'));
      process.env = {
        PATH: before.PATH, HOME: root, HF_ENDPOINT: server.hub, KAGGLE_API_ENDPOINT: server.hub,
        HF_HOME: join(root, 'hf'), KAGGLEHUB_CACHE: join(root, 'kaggle'), HF_TOKEN: SECRET, KAGGLE_API_TOKEN: SECRET,
      }; // prettier-ignore
      const files = Object.fromEntries(
        ['config.json', 'assets/tokenizer/vocabulary.spm', 'model.weights.h5', 'tokenizer.json'].map((path, i) => {
          return [path, randomBytes(Math.floor(random() ** 2 * 300_000), SEED * 1000 + round * 10 + i)];
        }),
      );
      const name = pick(['kaggle://a/b/keras/c/1', 'hf://a/b']);
      server.versions['a/b/keras/c/1'] = server.repositories['a/b'] = files;
      const rate = random() * 0.7;
      server.asked.length = 0;
      server.fault = ({host, path}) => {
        if (random() > rate) return undefined;
        const fault = pick(FAULTS);
        // New signed addresses are requested for expired ones; the hub's own refusals end the download.
        if (path === 'redirect' ? fault !== 'elsewhere' : host === 'other') return undefined;
        faults++;
        counts.set(fault, (counts.get(fault) ?? 0) + 1);
        return fault;
      };
      let model: HubModel | undefined;
      /** No range is requested that contains a stored byte. */
      const watched: typeof fetch = (input, options) => {
        const range = new Headers(options?.headers).get('range');
        const file = model?.files?.find(({url}) => url === String(input));
        if (file && range !== null) {
          const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(range)!;
          const stored = journal(`${model!.shelf.partial(file)}.ranges`);
          const twice = stored.filter(({start, end}) => start <= Number(last) && end > Number(first));
          if (twice.length > 0) errors.push(`${file.path}: ${range} is stored in ${JSON.stringify(twice)}`);
        }
        return fetch(input, options);
      };
      for (let attempt = 0; ; attempt++) {
        expect(attempt).toBeLessThan(200);
        attempts++;
        const requests = new Requests(watched, undefined, {idle: 100, retries: 3, sleep: async () => {}});
        model = await hubOf(name)!.find(name, {offline: false, requests: new Requests(undefined, undefined)});
        const error = await downloadFiles(model, model.files!, true, {
          requests, signal: undefined, onProgress: undefined, chunk: 20_000 + Math.floor(random() * 60_000), connections: 4,
        }).then(() => undefined, (error: unknown) => error as Error); // prettier-ignore
        // Files in place are complete.
        for (const [path, bytes] of Object.entries(files)) {
          const place = join(model.shelf.folder, path);
          if (existsSync(place))
            expect([round, path, Buffer.compare(readFileSync(place), bytes)]).toEqual([round, path, 0]);
          else expect(error).toBeDefined();
        }
        if (!error) break;
        errors.push(
          ...[String(error), error.stack ?? ''].filter(text => text.includes(SECRET) || text.includes(SIGNATURE)),
        );
        expect(String(error)).toMatch(/Expected .*Received: /);
      }
      expect(await model.shelf.isComplete()).toBe(true);
      for (const {host, authorization} of server.asked) if (host !== 'hub') expect(authorization).toBeUndefined();
      rmSync(root, {recursive: true});
    }
  } finally {
    process.env = before;
    await server.stop();
  }
  expect(errors).toEqual([]);
  // All kinds have occurred.
  expect(FAULTS.filter(fault => !FINAL.has(fault) && !counts.get(fault))).toEqual([]);
  if (process.env.HUB_FAULTS) console.log(`${faults} faults in ${attempts} downloads`, Object.fromEntries(counts));
}, 1_800_000);
