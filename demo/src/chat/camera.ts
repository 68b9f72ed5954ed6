/** Takes a picture with the camera, in a dialog. */
import {byId} from '../base/dom';
import {messageOf} from '../base/format';

/** Resolves with the picture, or with undefined if none was taken. */
export async function takePicture(): Promise<File | undefined> {
  const dialog = byId<HTMLDialogElement>('camera-dialog');
  const video = byId<HTMLVideoElement>('camera-video');
  const take = byId<HTMLButtonElement>('camera-take');
  const problem = byId('camera-problem');
  problem.textContent = '';
  take.disabled = true;
  dialog.showModal();
  let stream: MediaStream | undefined;
  const closed = new Promise<undefined>(resolve =>
    dialog.addEventListener('close', () => resolve(undefined), {once: true}),
  );
  byId('camera-cancel').onclick = () => dialog.close();
  const refuse = (error: unknown) => {
    problem.textContent = `The camera cannot be used: ${messageOf(error)}`;
  };
  const taken = new Promise<File>(resolve => (take.onclick = () => void shot(video).then(resolve, refuse)));
  try {
    if (!navigator.mediaDevices) throw new Error('This browser allows the camera only on https pages.');
    const opening = navigator.mediaDevices.getUserMedia({video: {facingMode: 'environment'}});
    stream = await Promise.race([opening, closed]);
    // The dialog was closed before the camera was ready.
    if (!stream) void opening.then(late => late.getTracks().forEach(track => track.stop())).catch(() => {});
    else {
      video.srcObject = stream;
      await video.play();
      take.disabled = false;
      take.focus();
    }
  } catch (error) {
    refuse(error);
  }
  const picture = await Promise.race([taken, closed]);
  stream?.getTracks().forEach(track => track.stop());
  video.srcObject = null;
  if (dialog.open) dialog.close();
  return picture;
}

async function shot(video: HTMLVideoElement): Promise<File> {
  const canvas = document.createElement('canvas');
  Object.assign(canvas, {width: video.videoWidth, height: video.videoHeight});
  canvas.getContext('2d')!.drawImage(video, 0, 0);
  const blob = await new Promise<Blob | null>(resolve => canvas.toBlob(resolve, 'image/png'));
  if (!blob) throw new Error('The browser could not save the picture.');
  return new File([blob], 'camera.png', {type: 'image/png'});
}
