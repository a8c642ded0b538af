//! Tensors between the compiler's terms and the runtime's, and random ones.

use ir::{DType, Symbol, Tensor, TensorType};
use runner::narrow;
use runner::random::{self, SplitMix64};

/// The runtime's name for an element type.
pub fn to_runtime(dtype: DType) -> runtime::DType {
    match dtype {
        DType::F32 => runtime::DType::F32,
        DType::F64 => runtime::DType::F64,
        DType::F16 => runtime::DType::F16,
        DType::BF16 => runtime::DType::Bf16,
        DType::I8 => runtime::DType::I8,
        DType::I16 => runtime::DType::I16,
        DType::I32 => runtime::DType::I32,
        DType::I64 => runtime::DType::I64,
        DType::U8 => runtime::DType::U8,
        DType::U16 => runtime::DType::U16,
        DType::U32 => runtime::DType::U32,
        DType::U64 => runtime::DType::U64,
        DType::Bool => runtime::DType::Bool,
        DType::F8E4M3FN => runtime::DType::F8E4M3FN,
        DType::F8E4M3FNUZ => runtime::DType::F8E4M3FNUZ,
        DType::F8E5M2 => runtime::DType::F8E5M2,
        DType::F8E5M2FNUZ => runtime::DType::F8E5M2FNUZ,
        DType::F8E8M0 => runtime::DType::F8E8M0,
        DType::F4E2M1 => runtime::DType::F4E2M1,
        DType::I4 => runtime::DType::I4,
        DType::U4 => runtime::DType::U4,
        DType::I2 => runtime::DType::I2,
        DType::U2 => runtime::DType::U2,
    }
}

/// Our name for one of the runtime's element types.
pub fn from_runtime(dtype: runtime::DType) -> DType {
    let ours = DType::ALL.into_iter().find(|ours| to_runtime(*ours) == dtype);
    ours.expect("the runtime has no element type that we don't have")
}

/// A tensor that was read from a file.
pub fn from_file(tensor: &runner::tensor::Tensor) -> Tensor {
    Tensor::new(from_runtime(tensor.dtype()), tensor.dims().to_vec(), tensor.bytes().to_vec())
        .expect("a tensor has the bytes that its type needs")
}

/// The tensor as elements of `dtype`, if it has what files hold in their place, and nothing else.
pub fn read_as(tensor: &Tensor, dtype: DType) -> Option<Tensor> {
    let wanted = to_runtime(dtype);
    let stands_in = narrow::stand_in(wanted) == Some(to_runtime(tensor.dtype()));
    let fits = stands_in && narrow::out_of_range(wanted, tensor.bytes()).is_none();
    fits.then(|| Tensor::new(dtype, tensor.shape().to_vec(), tensor.bytes().to_vec()))?
}

/// A tensor to be written to a file; `None` if memory is short.
pub fn to_file(tensor: &Tensor) -> Option<runner::tensor::Tensor> {
    runner::tensor::Tensor::from_bytes(to_runtime(tensor.dtype()), tensor.shape(), tensor.bytes())
}

/// A result of the runtime.
pub fn from_result(output: &runtime::TensorBuf) -> Tensor {
    let shape = output.dims.iter().map(|&size| usize::try_from(size).expect("the runtime checks sizes"));
    Tensor::new(from_runtime(output.dtype), shape.collect(), output.data.to_vec())
        .expect("a result has the bytes that its type needs")
}

/// A random tensor, the one that an artifact makes for its input number `index` under `seed`. `None` where a size has
/// no value, is negative, or is too large for memory.
pub fn random(
    ty: &TensorType,
    seed: u64,
    index: usize,
    size: &dyn Fn(&Symbol) -> Option<i64>,
) -> Option<Tensor> {
    let shape: Vec<usize> =
        ty.shape.iter().map(|dim| usize::try_from(dim.eval(size)?).ok()).collect::<Option<_>>()?;
    let dtype = to_runtime(ty.dtype);
    let mut tensor = runner::tensor::Tensor::zeroed(dtype, &shape)?;
    random::fill(dtype, tensor.bytes_mut(), &mut SplitMix64::stream(seed, index));
    Some(from_file(&tensor))
}

#[cfg(test)]
mod tests {
    use ir::Dim;

    use super::*;

    #[test]
    fn every_element_type_has_its_twin() {
        for dtype in DType::ALL {
            assert_eq!(from_runtime(to_runtime(dtype)), dtype);
            assert_eq!(to_runtime(dtype).bytes(), dtype.bytes());
            assert_eq!(to_runtime(dtype).name(), dtype.name());
        }
    }

    /// The runner prints floats of few bits by a definition of its own.
    #[test]
    fn narrow_floats_are_the_same_numbers() {
        for dtype in DType::ALL.into_iter().filter(|dtype| dtype.is_float() && dtype.bits() <= 16) {
            for code in 0..1u32 << dtype.bits() {
                let ours = ir::Scalar::from_bits(dtype, code.into()).to_f64();
                let theirs = narrow::decode(to_runtime(dtype), code as u16).expect("it is a narrow float");
                assert!(ours == theirs || (ours.is_nan() && theirs.is_nan()), "{dtype} {code:#x}");
            }
        }
        for dtype in DType::ALL {
            assert_eq!(dtype.is_narrow(), narrow::stand_in(to_runtime(dtype)).is_some(), "{dtype}");
        }
    }

    #[test]
    fn what_files_hold_in_the_place_of_a_type() {
        let bytes = Tensor::new(DType::I8, vec![2], vec![0xf8, 7]).expect("two bytes");
        let read = read_as(&bytes, DType::I4).expect("both are in range");
        assert_eq!((read.dtype(), read.to_i64()), (DType::I4, vec![-8, 7]));
        assert_eq!(read_as(&bytes, DType::I2), None);
        assert_eq!(read_as(&bytes, DType::U4), None);
        assert_eq!(read_as(&bytes, DType::I8), None);
    }

    #[test]
    fn files_and_back() {
        let tensor = Tensor::from_f32(&[2, 1], &[1.5, -2.0]);
        assert_eq!(from_file(&to_file(&tensor).expect("it is small")), tensor);
    }

    #[test]
    fn random_tensors_have_the_sizes_asked_for() {
        let ty = TensorType::new(DType::F32, [Dim::symbol("n"), Dim::constant(2)]);
        let of = |n| random(&ty, 0, 1, &|_| Some(n));
        assert_eq!(of(3).expect("it is small").shape(), [3, 2]);
        assert_eq!(of(3), of(3));
        assert_eq!(of(-1), None);
        assert_eq!(random(&ty, 0, 1, &|_| None), None);
    }
}
