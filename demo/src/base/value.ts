/** An observable value. */
export class Value<T> {
  private readonly watchers = new Set<(value: T) => void>();

  constructor(private current: T) {}

  get(): T {
    return this.current;
  }

  set(value: T): void {
    this.current = value;
    for (const watch of this.watchers) watch(value);
  }

  /** Calls `watch` now, and whenever the value is set. */
  watch(watch: (value: T) => void): void {
    this.watchers.add(watch);
    watch(this.current);
  }
}
