/**
 * Settings of answers: system text, sampler, lengths. They are stored, except the system text, which belongs to a
 * conversation.
 */
import {byId} from '../base/dom';
import {keptForGood} from '../base/remember';

const KEY = 'gemma3-settings';

/** The settings that each sampler reads. */
const READS: Record<string, readonly string[]> = {
  greedy: ['repetitionPenalty'],
  top_k: ['temperature', 'topK', 'minP', 'seed', 'repetitionPenalty'],
  top_p: ['temperature', 'topK', 'topP', 'minP', 'seed', 'repetitionPenalty'],
  random: ['temperature', 'minP', 'seed', 'repetitionPenalty'],
};
const SAMPLING = ['temperature', 'topK', 'topP', 'minP', 'seed', 'repetitionPenalty'] as const;
const START: Record<string, string> = {
  sampler: 'greedy',
  temperature: '1',
  topK: '64',
  topP: '0.95',
  maxNewTokens: '512',
};

export type SamplerName = 'greedy' | 'top_k' | 'top_p' | 'random';

/** Options of an answer. */
export interface AnswerOptions {
  sampler: SamplerName;
  maxNewTokens?: number;
  temperature?: number;
  topK?: number;
  topP?: number;
  minP?: number;
  seed?: number;
  repetitionPenalty?: number;
}

export class Settings {
  private readonly form = byId<HTMLFormElement>('settings');

  constructor(onSystem: (text: string) => void) {
    const {form} = this;
    form.onsubmit = event => event.preventDefault();
    const kept = JSON.parse(keptForGood.get(KEY) ?? '{}') as Record<string, string>;
    for (const [name, value] of Object.entries({...START, ...kept})) {
      if (form.elements.namedItem(name)) this.field(name).value = value;
    }
    form.onchange = () => {
      const {system: _system, who: _who, ...rest} = Object.fromEntries(new FormData(form)) as Record<string, string>;
      keptForGood.set(KEY, JSON.stringify(rest));
      this.showRead();
    };
    this.field('system').addEventListener('change', () => onSystem(this.system));
    this.showRead();
  }

  private field(name: string): HTMLInputElement {
    return this.form.elements.namedItem(name) as HTMLInputElement;
  }

  private number(name: string): number | undefined {
    const field = this.field(name);
    return field.value === '' || !field.checkValidity() ? undefined : field.valueAsNumber;
  }

  private showRead(): void {
    const read = READS[this.field('sampler').value] ?? [];
    for (const name of SAMPLING) this.field(name).closest('label')!.hidden = !read.includes(name);
  }

  get system(): string {
    return this.field('system').value;
  }
  set system(text: string) {
    this.field('system').value = text;
  }

  /** Which model answers. */
  get who(): 'original' | 'tuned' {
    return this.field('who').value as 'original' | 'tuned';
  }

  /** Offers the tuned model, which is chosen when it is new. */
  offerTuned(isThere: boolean): void {
    byId('tuned-label').hidden = !isThere;
    this.field('who').value = isThere ? 'tuned' : 'original';
  }

  /** Shows the default length of a conversation. */
  showLength(tokens: number | undefined): void {
    this.field('maxLength').placeholder = String(tokens ?? '');
  }

  get maxLength(): number | undefined {
    return this.number('maxLength');
  }

  /** Options of an answer. Empty and invalid fields are left out. */
  get options(): AnswerOptions {
    const sampler = this.field('sampler').value as SamplerName;
    const read = READS[sampler] ?? [];
    const names = ['maxNewTokens' as const, ...SAMPLING.filter(name => read.includes(name))];
    const values = names.map(name => [name, this.number(name)] as const).filter(([, value]) => value !== undefined);
    return {sampler, ...Object.fromEntries(values)};
  }
}
