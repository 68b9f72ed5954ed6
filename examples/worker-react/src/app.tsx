import {type FormEvent, useState} from 'react';
import {useChat} from './use_chat';

export function App() {
  const {messages, status, ready, answering, ask, stop} = useChat('gemma3_tiny');
  const [question, setQuestion] = useState('What is the capital of France?');
  const submit = (event: FormEvent) => {
    event.preventDefault();
    void ask(question);
  };
  return (
    <main>
      <h1>Chat</h1>
      <div role="log" aria-label="Conversation">
        {messages.map(({role, content}, i) => (
          <p key={i}>
            <strong>{role === 'user' ? 'You' : 'Gemma'}:</strong> {content}
          </p>
        ))}
      </div>
      <form onSubmit={submit}>
        <input aria-label="Question" value={question} onChange={event => setQuestion(event.target.value)} />
        <button disabled={!ready}>Ask</button>
        <button type="button" disabled={!answering} onClick={stop}>
          Stop
        </button>
      </form>
      <p role="status">{status}</p>
    </main>
  );
}
