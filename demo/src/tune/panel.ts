/** Fine-tuning: examples, settings, the run, and its result. */
import {announce, byId} from '../base/dom';
import {takeFiles} from '../base/files';
import {formatTime, messageOf} from '../base/format';
import {type Engine} from '../engine/engine';
import {showAdapters} from './adapter';
import {LossCurve} from './curve';
import {trainingData} from './data';
import {parseExamples, SAMPLE} from './examples';
import {LinePictures} from './pictures';
import {showPreview} from './preview';
import {type RunProgress, type RunSettings, TrainingRun} from './run';
import {showTry} from './try';

/** Milliseconds without a key press before lines are read. */
const PAUSE = 300;

/** Small models need higher rates. */
const rateFor = (parameters: number): number => (parameters < 1e7 ? 5e-3 : parameters < 6e8 ? 5e-4 : 2e-4);

export function showTune(engine: Engine): void {
  const form = byId<HTMLFormElement>('tune-form');
  const lines = byId<HTMLTextAreaElement>('tune-text');
  const problem = byId('tune-problem');
  const status = byId('tune-progress');
  const [start, pause, stop] = ['tune-start', 'tune-pause', 'tune-stop'].map(id => byId<HTMLButtonElement>(id)) as [
    HTMLButtonElement,
    HTMLButtonElement,
    HTMLButtonElement,
  ];
  const files = byId<HTMLInputElement>('tune-files');
  const pictures = new LinePictures(engine, lines, () => void preview());
  const curve = new LossCurve();
  let run: TrainingRun | undefined;
  let starting = false;
  let paused = false;
  let edit = 0;

  const field = (name: string) => form.elements.namedItem(name) as HTMLInputElement;
  const asTurns = () => field('turns').checked;
  const askBoth = showTry(engine, asTurns);
  showAdapters(engine);

  const enable = () => {
    const isRunning = starting || run !== undefined;
    start.disabled = isRunning || engine.model === undefined;
    start.hidden = isRunning;
    pause.hidden = stop.hidden = run === undefined;
    pause.textContent = paused ? 'Resume' : 'Pause';
  };

  /** The data of the lines. Undefined if there are none, or they cannot be read: the page then says why. */
  function data() {
    problem.textContent = '';
    try {
      const examples = parseExamples(lines.value);
      return examples.length > 0 ? trainingData(examples, pictures.all, asTurns()) : undefined;
    } catch (error) {
      problem.textContent = messageOf(error);
      return undefined;
    }
  }

  async function preview(): Promise<void> {
    const mine = ++edit;
    const {model} = engine;
    const read = data();
    if (!read) byId('preview').replaceChildren();
    else if (model) await showPreview(model.lm, read, () => mine === edit);
  }

  let waiting = 0;
  const previewSoon = () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => void preview(), PAUSE) as unknown as number;
  };

  function setLines(text: string): void {
    lines.value = text;
    void preview();
  }

  function showProgress({step, totalSteps, loss, left}: RunProgress): void {
    curve.add(loss, totalSteps);
    if (!paused)
      status.textContent = `Step ${step} of ${totalSteps}, loss ${loss.toFixed(3)}, ${formatTime(left)} left.`;
  }

  async function train(): Promise<void> {
    const {model} = engine;
    const read = data();
    if (!model || !read) {
      problem.textContent ||= 'Write or load some lines first, or use the sample task.';
      lines.focus();
      return;
    }
    const settings = Object.fromEntries(
      ['rank', 'rate', 'epochs', 'batchSize'].map(name => [name, field(name).valueAsNumber]),
    ) as unknown as RunSettings;
    starting = true;
    paused = false;
    enable();
    status.textContent = 'Starting…';
    curve.start(1);
    const began = performance.now();
    try {
      run = await TrainingRun.start(model.lm, read, settings, showProgress);
      enable();
      const stopped = await run.end();
      const time = formatTime((performance.now() - began) / 1000);
      status.textContent = stopped ? `Stopped after ${time}. What was learned is kept.` : `Done in ${time}.`;
      announce(status.textContent);
      await engine.setTuned({lm: run.lm, name: `${model.source.label}-tuned`});
      await askBoth();
    } catch (error) {
      status.textContent = 'Not finished.';
      await run?.lm.dispose().catch(() => {});
      if (!engine.handle(error)) problem.textContent = messageOf(error);
    } finally {
      run = undefined;
      starting = paused = false;
      enable();
    }
  }

  async function takeLoaded(loaded: readonly File[]): Promise<void> {
    pictures.add(loaded);
    for (const file of loaded) if (!file.type.startsWith('image/')) lines.value = await file.text();
    await preview();
  }

  form.onsubmit = event => {
    event.preventDefault();
    void train();
  };
  pause.onclick = async () => {
    if (!run) return;
    paused = !paused;
    enable();
    if (!paused) run.resume();
    else {
      status.textContent = 'Pausing after this step…';
      await run.pause();
      if (paused) status.textContent = 'Paused. You can try the chat meanwhile.';
    }
  };
  stop.onclick = () => {
    if (paused) run?.resume();
    run?.stop();
  };
  byId('tune-sample').onclick = () => {
    byId<HTMLInputElement>('try-text').value = SAMPLE.question;
    setLines(SAMPLE.text);
  };
  files.onchange = () => void takeLoaded(takeFiles(files));
  lines.oninput = previewSoon;
  field('turns').onchange = () => void preview();
  engine.phase.watch(phase => {
    enable();
    if (phase.kind !== 'ready') return;
    const {parameters} = phase.model.lm.info;
    Object.entries({rank: 8, rate: rateFor(parameters), epochs: 10, batchSize: 4}).forEach(([name, value]) => {
      field(name).value = String(value);
    });
    previewSoon();
  });
}
