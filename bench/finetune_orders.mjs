/** Typical fine-tuning examples: a customer's order as a chat turn, and the same order as JSON. */

const NAMES = ['Ada Lovelace', 'Alan Turing', 'Grace Hopper', 'Edsger Dijkstra', 'Barbara Liskov', 'Donald Knuth'];
const CITIES = ['Paris', 'Nairobi', 'Buenos Aires', 'Kyoto', 'Zürich', 'New Orleans', 'Reykjavík'];
const GOODS = [
  'desk lamp',
  'office chair',
  'box of pencils',
  'notebook',
  'water bottle',
  'mechanical keyboard',
  'globe',
];
const OPENINGS = [
  'Hello,',
  'Good morning! I was in your shop last week and liked it very much.',
  'Hi there, this is my second order and the first one was just fine, thank you.',
];

/** The same prompts and responses in every run: prompts of 39 to 69 tokens, responses of 26 to 48. */
export function orders(count) {
  let state = 2024;
  const below = limit => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
  const draw = list => list[below(list.length)];
  const examples = Array.from({length: count}, () => {
    const [name, city, day, opening] = [draw(NAMES), draw(CITIES), 1 + below(28), draw(OPENINGS)];
    const items = Array.from({length: 1 + below(3)}, () => ({item: draw(GOODS), count: 1 + below(9)}));
    const wishes = items.map(({item, count}) => `${count} × ${item}`).join(', ');
    return {
      prompt:
        '<start_of_turn>user\nWrite this order as JSON.\n\n' +
        `${opening} Could you send ${wishes} to ${city} by the ${day}th of May? Yours, ${name}<end_of_turn>\n` +
        '<start_of_turn>model\n',
      response: `${JSON.stringify({name, city, day, items})}<end_of_turn>`,
    };
  });
  return {prompts: examples.map(({prompt}) => prompt), responses: examples.map(({response}) => response)};
}
