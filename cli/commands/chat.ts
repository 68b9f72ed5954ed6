/** `gemma3 chat`: turns on a terminal or in a pipe, over one cache. */
import {createInterface, type Interface} from 'node:readline';
import {type Command} from 'commander';
import type {ChatSession, Gemma3CausalLM} from 'tfjs-gemma3';
import {checkImages, refuseTextAlone} from '../support/images';
import {type Io} from '../support/io';
import {meter} from '../support/meter';
import {addModelOptions, modelLoader, type ModelOptions, TINY} from '../support/model_options';
import {collect, positiveInteger} from '../support/options';

interface ChatOptions extends ModelOptions {
  system?: string;
  maxLength?: number;
  maxNewTokens?: number;
  stop?: string[];
  json?: boolean;
}

const COMMANDS_HELP = `  /image FILE   show a PNG or JPEG file with the next question
  /again        answer the last question anew
  /clear        forget the conversation
  /help         show this
  /exit         end, as Ctrl-D does
Ctrl-C stops an answer; pressed again, or without one, it ends the program.
`;

const EXAMPLES = `
Each line of standard input is a turn, on a terminal and in a pipe; the answer goes to standard output as it comes. Lines that
begin with a slash are commands, with a space before it they are text:
${COMMANDS_HELP}
Examples:
  $ gemma3 chat --preset ./gemma3_270m
  $ gemma3 chat --preset ./gemma3_270m --system "Answer in one sentence." --max-length 4096
  $ gemma3 chat --preset ./gemma3_270m --json < questions.txt
  $ printf '/image picture.png\nWhat is in the picture?\n' | gemma3 chat
`;

export function addChat(program: Command, io: Io): void {
  const command = addModelOptions(program.command('chat').description("talk in turns, by Gemma's template"))
    .option('--system <text>', 'what the model is told before the first turn')
    .option('--max-length <tokens>', "length of a conversation (default: the preset's)", positiveInteger)
    .option('--max-new-tokens <tokens>', 'length of an answer (default: what is left of --max-length)', positiveInteger)
    .option('--stop <text>', 'end an answer before this text; may be given more than once', collect)
    .option('--json', 'print one JSON object a turn: the text, how many tokens, how many seconds')
    .addHelpText('after', EXAMPLES);
  command.action(async (options: ChatOptions) => {
    const {lm, dispose} = await modelLoader(options, io, message => command.error(`error: ${message}`))();
    try {
      await new Conversation(lm, options, io).run();
    } finally {
      dispose();
    }
  });
}

/** A conversation, and what is under way in it. */
class Conversation {
  private readonly chat: ChatSession;
  private readonly terminal: boolean;
  private answering: AbortController | null = null;
  /** Files that go with the next question. */
  private images: string[] = [];

  constructor(
    private readonly lm: Gemma3CausalLM,
    private readonly options: ChatOptions,
    private readonly io: Io,
  ) {
    const {system, maxLength} = options;
    this.chat = lm.startChat({...(system !== undefined && {system}), ...(maxLength !== undefined && {maxLength})});
    this.terminal = io.stdin.isTTY ?? false;
  }

  async run(): Promise<void> {
    const {io} = this;
    // What is typed shows on stderr: stdout has answers alone.
    const output = this.terminal ? io.stderr : undefined;
    const lines = createInterface({input: io.stdin, output, terminal: this.terminal, prompt: '> '});
    // A terminal that is read key by key sends no signal.
    lines.on('SIGINT', () => io.interrupts.press());
    io.interrupts.handler = () => this.interrupt();
    const end = () => {
      this.answering?.abort(io.signal.reason);
      lines.close();
    };
    io.signal.addEventListener('abort', end);
    try {
      if (this.terminal) this.warn(`Chat with ${this.options.preset ?? TINY}; /help shows commands.`);
      await this.read(lines);
      io.signal.throwIfAborted();
    } finally {
      io.signal.removeEventListener('abort', end);
      io.interrupts.handler = null;
      lines.close();
      this.chat.dispose();
    }
  }

  private async read(lines: Interface): Promise<void> {
    if (this.terminal) lines.prompt();
    for await (const line of lines) {
      this.io.signal.throwIfAborted();
      if (line.trim() === '/exit') return;
      try {
        await this.take(line);
      } catch (error) {
        // In a pipe nobody can answer to it.
        if (!this.terminal || this.io.signal.aborted) throw error;
        this.warn((error as Error).message);
      }
      if (this.terminal) lines.prompt();
    }
  }

  private async take(line: string): Promise<void> {
    const {chat} = this;
    const options = {maxNewTokens: this.options.maxNewTokens, stopStrings: this.options.stop};
    const [command] = /^\/\w+/.exec(line) ?? [];
    if (command === '/clear') {
      chat.clear();
      this.images = [];
    } else if (command === '/image') await this.show(line.slice(command.length).trim());
    else if (command === '/help') this.io.stderr.write(COMMANDS_HELP);
    else if (command === '/again') await this.answer(signal => chat.regenerate({...options, signal}));
    else if (command) throw new Error(`There is no command ${command}; /help shows those that there are.`);
    else if (line.trim()) {
      const parts = this.images.map(image => ({type: 'image', image}) as const);
      this.images = [];
      const content = parts.length ? [...parts, {type: 'text', text: line} as const] : line;
      await this.answer(signal => chat.stream(content, {...options, signal}));
    }
  }

  /** A file that is no image is told at once, not with the question. */
  private async show(file: string): Promise<void> {
    if (!file) throw new Error('Expected the name of a file behind /image.');
    const {preprocessor} = this.lm;
    refuseTextAlone(preprocessor!, this.options.preset ?? TINY);
    const images = [...this.images, file];
    await checkImages(preprocessor!, {
      prompts: preprocessor!.tokenizer.startOfImageToken.repeat(images.length),
      images,
    });
    this.images = images;
    if (this.terminal) this.warn(`${file} goes with the next question.`);
  }

  private async answer(start: (signal: AbortSignal) => AsyncGenerator<string, void>): Promise<void> {
    const {io, chat} = this;
    this.answering = new AbortController();
    const {signal} = this.answering;
    const stop = meter(this.lm.sampler);
    let text = '';
    try {
      for await (const piece of start(signal)) {
        text += piece;
        if (!this.options.json) io.stdout.write(piece);
      }
    } catch (error) {
      if (!signal.aborted || io.signal.aborted) throw this.explained(error);
    } finally {
      this.answering = null;
      const {newTokens, prefillSeconds, decodeSeconds} = stop();
      const counts = {promptTokens: chat.promptLength, reusedTokens: chat.reused, newTokens};
      if (this.options.json && (text || newTokens)) {
        io.stdout.write(`${JSON.stringify({text, ...counts, prefillSeconds, decodeSeconds})}\n`);
      } else if (text || newTokens) io.stdout.write('\n');
    }
    if (chat.length >= chat.maxLength) this.warn(this.full());
  }

  /** What to do about a full conversation, in the words of this command. */
  private explained(error: unknown): unknown {
    return (error as Error).name === 'ContextFullError' ? new Error(this.full()) : error;
  }

  private full(): string {
    return `The conversation fills its ${this.chat.maxLength} tokens. Begin anew with /clear, or start with a larger --max-length.`;
  }

  /** True for the first Ctrl-C of an answer. */
  private interrupt(): boolean {
    if (!this.answering || this.answering.signal.aborted) return false;
    this.answering.abort(new Error('Interrupted.'));
    return true;
  }

  private warn(text: string): void {
    this.io.stderr.write(`${text}\n`);
  }
}
