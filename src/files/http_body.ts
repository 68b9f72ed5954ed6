/** A file that arrives as a whole, from beginning to end, because its server does not support range requests. */
import {type HttpClient, LostRequest, pieces} from './http_client';
import {isPage} from './http_page';

const NOTHING = new Uint8Array(0);

/**
 * Takes bytes of a file from a response as they arrive. Nothing is kept: bytes that are not requested are skipped, and
 * the connection waits while nothing is requested.
 */
export class WholeBody {
  /** Position in the file of the next byte. */
  private position = 0;
  private body: AsyncGenerator<Uint8Array> | undefined;
  /** What has arrived from `position` on. */
  private left: Uint8Array = NOTHING;
  private turn: Promise<unknown> = Promise.resolve();

  /**
   * @param request requests the file again if the connection is lost.
   * @param response the answer to the first request.
   */
  constructor(
    private readonly name: string,
    private readonly size: number,
    private readonly client: HttpClient,
    private readonly request: () => Promise<Response>,
    private readonly signal: AbortSignal | undefined,
    response?: Response,
  ) {
    if (response) this.body = pieces(response, name, signal);
  }

  /**
   * Fills `target` with the bytes from `offset` on. Concurrent reads run one after another.
   *
   * @returns false if these bytes have passed.
   */
  readInto(offset: number, target: Uint8Array): Promise<boolean> {
    const reading = this.turn.then(async () => {
      if (offset < this.position) return false;
      let filled = 0;
      await this.client.retried(async () => {
        this.body ??= pieces(await this.request(), this.name, this.signal);
        try {
          while (filled < target.length) filled += await this.take(offset + filled, target.subarray(filled));
          if (this.position === this.size) await this.end();
        } catch (error) {
          await this.restart();
          throw error;
        }
      }, this.signal);
      return true;
    });
    this.turn = reading.catch(() => {});
    return reading;
  }

  /** Frees the connection. */
  async close(): Promise<void> {
    await this.turn;
    await this.restart();
  }

  /** Copies what has arrived, and returns how many bytes: 0 while there is only something to skip. */
  private async take(offset: number, target: Uint8Array): Promise<number> {
    if (this.left.length === 0) {
      const next = await this.body!.next();
      if (next.done) {
        throw new LostRequest(
          new Error(
            `Expected ${this.size} bytes of ${this.name}. Received: ${this.position}. The connection ended early, or ` +
              'the file on the server is shorter.',
          ),
        );
      }
      this.left = next.value;
      if (this.position === 0 && isPage(this.left)) {
        throw new Error(`Expected ${this.size} bytes of ${this.name}. Received: a web page with HTTP 200.`);
      }
    }
    const skipped = Math.min(offset - this.position, this.left.length);
    const part = this.left.subarray(skipped, skipped + target.length);
    target.set(part);
    this.position += skipped + part.length;
    this.left = this.left.subarray(skipped + part.length);
    return part.length;
  }

  /** @throws Error if more comes than the file should have. */
  private async end(): Promise<void> {
    const rest = this.left.length > 0 ? this.left : (await this.body!.next()).value;
    if (rest) throw new Error(`Expected ${this.size} bytes of ${this.name}. Received: more.`);
  }

  private async restart(): Promise<void> {
    const {body} = this;
    this.body = undefined;
    this.left = NOTHING;
    this.position = 0;
    await body?.return(undefined).catch(() => {});
  }
}
