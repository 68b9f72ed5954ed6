/** How a kernel of this backend is written: a program over handles. */
import {type KernelFunc, type TensorInfo} from '@tensorflow/tfjs';
import {type Device, type Program} from '../device';

/** Inputs by name, of which some may be missing. */
type Inputs<Required extends string, Optional extends string> = Record<Required, TensorInfo> &
  Partial<Record<Optional, TensorInfo>>;

export const kernelOf =
  <Required extends string, Attrs extends object = object, Optional extends string = never>(
    device: Device,
    run: (program: Program, inputs: Inputs<Required, Optional>, attrs: Attrs) => TensorInfo,
  ): KernelFunc =>
  ({inputs, attrs}) =>
    device.program(program => run(program, inputs as object as Inputs<Required, Optional>, attrs as object as Attrs));
