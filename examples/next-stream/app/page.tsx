'use client';
import {type FormEvent, useState} from 'react';

export default function Page() {
  const [answer, setAnswer] = useState('');

  async function ask(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    setAnswer('');
    const prompt = new FormData(event.currentTarget).get('prompt');
    const response = await fetch('/api/generate', {method: 'POST', body: JSON.stringify({prompt})});
    if (!response.ok) return setAnswer(await response.text());
    const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const {done, value} = await reader.read();
      if (done) return;
      setAnswer(before => before + value);
    }
  }

  return (
    <form onSubmit={ask}>
      <input name="prompt" defaultValue="What is the capital of France?" />
      <button>Ask</button>
      <p>{answer}</p>
    </form>
  );
}
