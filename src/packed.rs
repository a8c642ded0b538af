//! The weights of a program as an artifact stores them: each in its layout, one after the other, aligned to 64 bytes.
//!
//! Weights go from their storage to the artifact in pieces. Those that must be rearranged are so twice: for their hash,
//! which the plan holds, and when they are written. So the memory that it takes does not depend on their size.

use std::convert::Infallible;
use std::io::{self, Write};

use ir::program::Program;
use runtime::plan::WeightSlot;
use runtime::{AlignedBytes, OutOfMemory};

use crate::tensors::to_runtime;

/// Alignment of a weight in its section.
pub(crate) const ALIGN: u64 = 64;

/// Where the weights of a program lie in their section.
#[derive(Debug)]
pub(crate) struct Packed {
    /// One for each weight of the program.
    pub(crate) slots: Vec<WeightSlot>,
    /// Length of the section.
    pub(crate) bytes: u64,
}

impl Packed {
    /// Lays out the weights of `program`.
    pub(crate) fn new(program: &Program) -> Packed {
        let mut packed = Packed { slots: Vec::new(), bytes: 0 };
        for weight in &program.weights {
            let bytes = weight.size() as u64;
            let offset = packed.bytes.next_multiple_of(ALIGN);
            packed.slots.push(WeightSlot {
                name: weight.name.to_string(),
                dtype: to_runtime(weight.dtype()),
                dims: weight.shape().into_iter().map(|size| size as u64).collect(),
                offset,
                bytes,
                hash: weight.hash().0,
            });
            packed.bytes = offset + bytes;
        }
        packed
    }

    /// Writes the section; `program` is the one that was laid out.
    ///
    /// # Errors
    /// Those of `out`.
    pub(crate) fn write(&self, program: &Program, out: &mut impl Write) -> io::Result<()> {
        let mut at = 0;
        for (slot, weight) in self.slots.iter().zip(&program.weights) {
            out.write_all(&[0; ALIGN as usize][..(slot.offset - at) as usize])?;
            weight.for_each_piece(&mut |piece| out.write_all(piece))?;
            at = slot.offset + slot.bytes;
        }
        Ok(())
    }

    /// The section in memory.
    ///
    /// # Errors
    /// There is not enough.
    pub(crate) fn in_memory(&self, program: &Program) -> Result<AlignedBytes, OutOfMemory> {
        let too_large = || OutOfMemory { what: "the weights", bytes: self.bytes };
        let len = usize::try_from(self.bytes).map_err(|_| too_large())?;
        let mut section = AlignedBytes::zeroed(len, "the weights")?;
        for (slot, weight) in self.slots.iter().zip(&program.weights) {
            let mut at = slot.offset as usize;
            let Ok(()) = weight.for_each_piece::<Infallible>(&mut |piece| {
                section[at..at + piece.len()].copy_from_slice(piece);
                at += piece.len();
                Ok(())
            });
        }
        Ok(section)
    }
}

#[cfg(test)]
mod tests {
    use ir::program::{Layout, PackedWeight};
    use ir::{Tensor, Weight};

    use super::*;

    fn program() -> Program {
        let weight = |name: &str, shape: &[usize], layout| PackedWeight {
            name: name.into(),
            weight: Weight::from_tensor(
                name,
                &Tensor::from_f32(
                    shape,
                    &(0..shape.iter().product()).map(|i: usize| i as f32).collect::<Vec<_>>(),
                ),
            ),
            layout,
        };
        let panels = Layout::Panels { outer: vec![], depth: 2, cols: 3, row: 3, col: 1, offset: 0 };
        Program {
            name: "p".to_owned(),
            weights: vec![
                weight("a", &[3], Layout::Plain),
                weight("b", &[2, 3], panels),
                weight("c", &[2, 3], Layout::Permuted(vec![1, 0])),
            ],
            kernels: Vec::new(),
            entries: Vec::new(),
        }
    }

    #[test]
    fn rows_that_lie_as_tiles_read_them() {
        assert_eq!(usize::try_from(ir::kernel::stmt::ROW), Ok(runtime::gemm::A_STRIDE));
    }

    #[test]
    fn weights_are_aligned_and_the_same_in_memory_and_on_disk() {
        let program = program();
        let packed = Packed::new(&program);
        assert_eq!(packed.slots.iter().map(|slot| slot.offset).collect::<Vec<_>>(), [0, 64, 320]);
        let mut written = Vec::new();
        packed.write(&program, &mut written).expect("memory takes it");
        assert_eq!(written.len() as u64, packed.bytes);
        assert_eq!(packed.bytes, crate::summary::weight_bytes(&program));
        assert_eq!(*packed.in_memory(&program).expect("it is small"), *written);
        for slot in &packed.slots {
            let bytes = &written[slot.offset as usize..(slot.offset + slot.bytes) as usize];
            assert_eq!(ir::weight::Hash::of(bytes).0, slot.hash, "{}", slot.name);
        }
    }

    /// The compiler's layout is the runtime's.
    #[test]
    fn panels_are_what_the_runtime_packs() {
        let program = program();
        let source: Vec<f32> = (0..6).map(|i| i as f32).collect();
        let mut expected = vec![f32::NAN; runtime::packed_len(2, 3)];
        runtime::pack_panels(&source, 2, 3, 3, 1, &mut expected);
        let bytes: Vec<u8> = expected.iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(program.weights[1].pack().bytes(), bytes);
    }
}
