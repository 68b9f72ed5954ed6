/** The command without a subcommand: help, version and errors. */
import {version} from '../../package.json';
import {run} from './run';

const COMMANDS = ['generate', 'chat', 'embed', 'finetune', 'inspect', 'presets', 'convert', 'doctor', 'bench'];

describe('gemma3', () => {
  test('prints its version', async () => {
    expect(await run(['--version'])).toMatchObject({code: 0, stdout: `${version}\n`, stderr: ''});
  });

  test('lists all commands', async () => {
    const {code, stdout} = await run(['--help']);
    expect(code).toBe(0);
    for (const command of COMMANDS) expect(stdout).toContain(`  ${command}`);
  });

  test.each(COMMANDS)('%s --help shows an example', async command => {
    const {code, stdout, stderr} = await run([command, '--help']);
    expect({code, stderr}).toEqual({code: 0, stderr: ''});
    expect(stdout).toMatch(/Examples?:\n {2}\$ gemma3/);
  });

  test.each([
    [[], /Usage/],
    [['no_such_command'], /unknown command 'no_such_command'/],
    [['generate', '--no-such-option'], /unknown option/],
    [['generate', 'two', 'prompts'], /too many arguments/],
    [['inspect'], /missing required argument 'PRESET'/],
    [['embed'], /missing required argument 'TEXT'/],
    [['embed', 'a', '--pooling', 'max'], /Allowed choices are last, mean/],
    [['embed', '-', '-'], /Pass one -/],
    [['bench', '--backend', 'cpu', '--threads', '2'], /'--threads' has no effect with '--backend cpu'/],
    [['bench', '--backend', 'simd', '--software'], /'--software' has an effect only with '--backend webgpu'/],
    [['generate', 'a', '--backend', 'cpu', '--threads', '2'], /'--threads' has no effect with '--backend cpu'/],
    [['chat', '--backend', 'cpu', '--threads', '2'], /'--threads' has no effect with '--backend cpu'/],
  ])('exits with code 2 for %j', async (argv, text) => {
    const {code, stdout, stderr} = await run(argv);
    expect({code, stdout}).toEqual({code: 2, stdout: ''});
    expect(stderr).toMatch(text);
  });

  test('reports an error in one line', async () => {
    const {code, stdout, stderr} = await run(['inspect', '/no/such/folder']);
    expect({code, stdout}).toEqual({code: 1, stdout: ''});
    expect(stderr).toMatch(/^error: .*"\/no\/such\/folder".*\n$/);
  });

  test('prints the stack with GEMMA3_DEBUG', async () => {
    const {stderr} = await run(['inspect', '/no/such/folder'], {debug: true});
    expect(stderr).toMatch(/\n {4}at /);
  });
});
