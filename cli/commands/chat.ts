/** `gemma3 chat`: a conversation on a terminal or in a pipe, with one cache for all turns. */
import {createInterface, type Interface} from 'node:readline';
import {type Command} from 'commander';
import type {ChatSession, Ending, Gemma3CausalLM, Gemma3CausalLMPreprocessor} from 'tfjs-gemma3';
import {describeEnding} from '../support/format';
import {checkImages, type ImageOptions, loadPreprocessor, refuseTextOnly} from '../support/images';
import {type Io} from '../support/io';
import {meter} from '../support/meter';
import {addModelOptions, modelLoader, type ModelOptions} from '../support/model_options';
import {type Choices, collect, imageOrientationOption, positiveInteger, TINY} from '../support/options';

interface ChatOptions extends ModelOptions, ImageOptions {
  system?: string;
  maxLength?: number;
  maxNewTokens?: number;
  stop?: string[];
  details?: boolean;
  json?: boolean;
}

const COMMANDS_HELP = `  /image FILE   attach an image file, or its address, to the next question
  /again        answer the last question again
  /clear        forget the conversation
  /help         show these commands
  /exit         end the program, like Ctrl-D
Ctrl-C stops the current answer. If there is none, or if you press it again, it ends the program.
`;

const EXAMPLES = `
Each line of standard input is one turn. The answer is printed to standard output while it is generated. Lines that begin
with a slash are commands; put a space before the slash to send such a line as text:
${COMMANDS_HELP}
Examples:
  $ gemma3 chat --preset ./gemma3_270m
  $ gemma3 chat --preset ./gemma3_270m --system "Answer in one sentence." --max-length 4096
  $ gemma3 chat --preset ./gemma3_270m --json < questions.txt
  $ printf '/image picture.png\\nWhat is in the picture?\\n' | gemma3 chat
`;

export function addChat(program: Command, io: Io, {backends}: Choices): void {
  const command = program.command('chat').description("hold a conversation with Gemma's chat template");
  addModelOptions(command, backends)
    .option('--system <text>', 'instructions for the model, before the first turn')
    .addOption(imageOrientationOption())
    .option('--max-length <tokens>', "maximum length of the conversation (default: the preset's)", positiveInteger)
    .option(
      '--max-new-tokens <tokens>',
      'maximum length of an answer (default: the rest of --max-length)',
      positiveInteger,
    )
    .option('--stop <text>', 'end an answer before this text; may be repeated', collect)
    .option('--details', 'also print to standard error why each answer ended, and how many tokens it has')
    .option('--json', 'print one JSON object per turn: text, why it ended, token counts and seconds')
    .addHelpText('after', EXAMPLES);
  command.action(async (options: ChatOptions) => {
    const refuse = (message: string): never => command.error(`error: ${message}`);
    if (options.details && options.json) {
      refuse("option '--details' has no effect with '--json', which prints the same. Leave one of them out.");
    }
    const load = modelLoader(options, io, refuse);
    const preprocessor = options.imageOrientation && (await loadPreprocessor(options.preset ?? TINY, options));
    const {lm, dispose} = await load(preprocessor && {preprocessor});
    try {
      await new Conversation(lm, options, io).run();
    } finally {
      dispose();
    }
  });
}

/** A conversation and the answer in progress. */
class Conversation {
  private readonly chat: ChatSession;
  private readonly terminal: boolean;
  private answering: AbortController | null = null;
  /** How the last answer ended. */
  private ending: Ending | undefined;
  /** Image files attached to the next question. */
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
    // Typed text is echoed on stderr, because stdout holds only answers.
    const output = this.terminal ? io.stderr : undefined;
    const lines = createInterface({input: io.stdin, output, terminal: this.terminal, prompt: '> '});
    // readline puts the terminal in raw mode, in which Ctrl-C sends no signal.
    lines.on('SIGINT', () => io.interrupts.press());
    io.interrupts.handler = () => this.interrupt();
    const end = () => {
      this.answering?.abort(io.signal.reason);
      lines.close();
    };
    io.signal.addEventListener('abort', end);
    try {
      if (this.terminal) this.warn(`Chat with ${this.options.preset ?? TINY}. Type /help for commands.`);
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
        await this.handle(line);
      } catch (error) {
        // On a terminal the user can react and continue. In a pipe, nobody can react.
        if (!this.terminal || this.io.signal.aborted) throw error;
        this.warn((error as Error).message);
      }
      if (this.terminal) lines.prompt();
    }
  }

  private async handle(line: string): Promise<void> {
    const {chat} = this;
    const onFinish = (ending: Ending) => (this.ending = ending);
    const options = {maxNewTokens: this.options.maxNewTokens, stopStrings: this.options.stop, onFinish};
    const [command] = /^\/\w+/.exec(line) ?? [];
    if (command === '/clear') {
      chat.clear();
      this.images = [];
    } else if (command === '/image') await this.attach(line.slice(command.length).trim());
    else if (command === '/help') this.io.stderr.write(COMMANDS_HELP);
    else if (command === '/again') await this.answer(signal => chat.regenerate({...options, signal}));
    else if (command) throw new Error(`Unknown command ${command}. Type /help for a list of commands.`);
    else if (line.trim()) {
      const parts = this.images.map(image => ({type: 'image', image}) as const);
      this.images = [];
      const content = parts.length ? [...parts, {type: 'text', text: line} as const] : line;
      await this.answer(signal => chat.stream(content, {...options, signal}));
    }
  }

  /** Attaches an image. Checks it immediately, not when the question is asked. */
  private async attach(file: string): Promise<void> {
    if (!file) throw new Error('Expected the name of a file after /image.');
    const preprocessor = this.lm.preprocessor as Gemma3CausalLMPreprocessor;
    refuseTextOnly(preprocessor, this.options.preset ?? TINY);
    const images = [...this.images, file];
    await checkImages(preprocessor, {
      prompts: preprocessor.tokenizer.startOfImageToken.repeat(images.length),
      images,
    });
    this.images = images;
    if (this.terminal) this.warn(`${file} will be sent with the next question.`);
  }

  private async answer(start: (signal: AbortSignal) => AsyncGenerator<string, void>): Promise<void> {
    const {io, chat} = this;
    this.answering = new AbortController();
    const {signal} = this.answering;
    const stop = meter(this.lm.sampler);
    this.ending = undefined;
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
      const ending = this.lastEnding();
      const {newTokens, prefillSeconds, decodeSeconds} = stop();
      const counts = {promptTokens: chat.promptLength, reusedTokens: chat.reused, newTokens};
      if (this.options.json && (text || newTokens)) {
        const {finishReason} = ending ?? {};
        io.stdout.write(`${JSON.stringify({text, finishReason, ...counts, prefillSeconds, decodeSeconds})}\n`);
      } else if (text || newTokens) io.stdout.write('\n');
      if (this.options.details && ending) this.warn(describeEnding(ending));
    }
    if (chat.length >= chat.maxLength) this.warn(this.full());
  }

  /** A function, since the compiler does not know that the answer sets it. */
  private lastEnding(): Ending | undefined {
    return this.ending;
  }

  /** Replaces the error for a full conversation with one that names the options of this command. */
  private explained(error: unknown): unknown {
    return (error as Error).name === 'ContextFullError' ? new Error(this.full()) : error;
  }

  private full(): string {
    return (
      `The conversation fills its ${this.chat.maxLength} tokens. Start over with /clear, or restart with a ` +
      'larger --max-length.'
    );
  }

  /** Handles Ctrl-C. Returns true if it stopped an answer. */
  private interrupt(): boolean {
    if (!this.answering || this.answering.signal.aborted) return false;
    this.answering.abort(new Error('Interrupted.'));
    return true;
  }

  private warn(text: string): void {
    this.io.stderr.write(`${text}\n`);
  }
}
