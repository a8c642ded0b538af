//! Values of scalar expressions as machine values, and their forms.
//!
//! Outside vector loops every value is one machine value in *scalar form*: floats as they are, those of 16 and fewer
//! bits as their bits, integers by width, those of fewer than 8 bits as a byte, truth values as one byte, 0 or 1. Inside
//! a vector loop a value that differs between iterations is in *lane form*: vectors of four 32-bit lanes. Integers of
//! fewer bits are extended to 32 there by their sign, floats of 16 and fewer bits by zeros, and truth values are masks, 0
//! or −1. Types of 64 bits have no lane form.

use cranelift_codegen::ir::{self as clif, InstBuilder, Type, types};
use ir::dtype::{Class, DType};

use super::function::Emitter;

/// Lanes of one machine vector.
pub(crate) const GROUP: usize = 4;

/// A value: the same for all lanes, or one for each.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// The same in all iterations of the vector loop, in scalar form.
    Uniform(clif::Value),
    /// Different values, four lanes each, in lane form.
    Lanes(Vec<clif::Value>),
}

impl Value {
    /// The machine value outside of vector loops.
    pub(crate) fn scalar(&self) -> clif::Value {
        match self {
            Value::Uniform(value) => *value,
            Value::Lanes(_) => unreachable!("bug: lanes where one value is expected"),
        }
    }
}

/// The machine type of the scalar form.
pub(crate) fn scalar_type(dtype: DType) -> Type {
    match dtype {
        DType::F32 => types::F32,
        DType::F64 => types::F64,
        DType::I8 | DType::U8 | DType::Bool => types::I8,
        DType::I4 | DType::U4 | DType::I2 | DType::U2 => types::I8,
        DType::F8E4M3FN | DType::F8E4M3FNUZ | DType::F8E5M2 | DType::F8E5M2FNUZ => types::I8,
        DType::F8E8M0 | DType::F4E2M1 => types::I8,
        DType::F16 | DType::BF16 | DType::I16 | DType::U16 => types::I16,
        DType::I32 | DType::U32 => types::I32,
        DType::I64 | DType::U64 => types::I64,
    }
}

/// The machine type of four lanes, if the type has a lane form.
pub(crate) fn lane_type(dtype: DType) -> Option<Type> {
    match dtype {
        DType::F32 => Some(types::F32X4),
        _ if dtype.bits() > 32 => None,
        _ => Some(types::I32X4),
    }
}

impl Emitter<'_, '_> {
    /// A value in scalar form as one 32-bit lane.
    pub(crate) fn lane_of_scalar(&mut self, dtype: DType, value: clif::Value) -> clif::Value {
        match (dtype, dtype.class()) {
            (DType::F32 | DType::I32 | DType::U32, _) => value,
            (_, Class::Bool) => {
                let wide = self.b.ins().uextend(types::I32, value);
                self.b.ins().ineg(wide)
            }
            (_, Class::Signed) => self.b.ins().sextend(types::I32, value),
            _ => self.b.ins().uextend(types::I32, value),
        }
    }

    /// One 32-bit lane in scalar form.
    pub(crate) fn scalar_of_lane(&mut self, dtype: DType, lane: clif::Value) -> clif::Value {
        match dtype {
            DType::F32 | DType::I32 | DType::U32 => lane,
            DType::Bool => {
                let bit = self.int_like(lane, 1);
                let bit = self.b.ins().band(lane, bit);
                self.b.ins().ireduce(types::I8, bit)
            }
            _ => self.b.ins().ireduce(scalar_type(dtype), lane),
        }
    }

    /// A value as vectors, one for each four lanes of the current vector loop.
    pub(crate) fn spread(&mut self, dtype: DType, value: &Value) -> Vec<clif::Value> {
        match value {
            Value::Lanes(groups) => groups.clone(),
            Value::Uniform(value) => {
                let lane = self.lane_of_scalar(dtype, *value);
                let ty = lane_type(dtype).expect("bug: a value without lane form in a vector loop");
                vec![self.b.ins().splat(ty, lane); self.groups()]
            }
        }
    }

    /// Lane `index` of a value, in scalar form.
    pub(crate) fn lane(&mut self, dtype: DType, value: &Value, index: usize) -> clif::Value {
        match value {
            Value::Uniform(value) => *value,
            Value::Lanes(groups) => {
                let lane = self.b.ins().extractlane(groups[index / GROUP], (index % GROUP) as u8);
                self.scalar_of_lane(dtype, lane)
            }
        }
    }

    /// Values in scalar form, one for each lane, as vectors.
    pub(crate) fn pack(&mut self, dtype: DType, lanes: &[clif::Value]) -> Value {
        let ty = lane_type(dtype).expect("bug: a value without lane form in a vector loop");
        let groups = lanes.chunks(GROUP).map(|four| {
            let first = self.lane_of_scalar(dtype, four[0]);
            let mut group = self.b.ins().splat(ty, first);
            for (at, &value) in four.iter().enumerate().skip(1) {
                let lane = self.lane_of_scalar(dtype, value);
                group = self.b.ins().insertlane(group, lane, at as u8);
            }
            group
        });
        Value::Lanes(groups.collect())
    }

    /// The number `value` in the type of `like`, an integer or a vector of integers.
    pub(crate) fn int_like(&mut self, like: clif::Value, value: i64) -> clif::Value {
        let ty = self.type_of(like);
        let scalar = self.int(ty.lane_type(), value);
        if ty.is_vector() { self.b.ins().splat(ty, scalar) } else { scalar }
    }

    /// The number `value` in an integer type; bits beyond its width are dropped.
    pub(crate) fn int(&mut self, ty: Type, value: i64) -> clif::Value {
        let mask = u64::MAX >> (64 - ty.bits());
        self.b.ins().iconst(ty, (value as u64 & mask) as i64)
    }

    /// The number `value` in the type of `like`, a float or a vector of floats.
    pub(crate) fn float_like(&mut self, like: clif::Value, value: f64) -> clif::Value {
        let ty = self.type_of(like);
        let scalar = match ty.lane_type() {
            types::F64 => self.b.ins().f64const(value),
            _ => self.b.ins().f32const(value as f32),
        };
        if ty.is_vector() { self.b.ins().splat(ty, scalar) } else { scalar }
    }

    /// The machine type of a value.
    pub(crate) fn type_of(&self, value: clif::Value) -> Type {
        self.b.func.dfg.value_type(value)
    }

    /// `yes` where the condition holds, else `no`; the condition is a byte, or a mask for vectors.
    pub(crate) fn choose(&mut self, cond: clif::Value, yes: clif::Value, no: clif::Value) -> clif::Value {
        let ty = self.type_of(yes);
        if !ty.is_vector() || !self.type_of(cond).is_vector() {
            return self.b.ins().select(cond, yes, no);
        }
        let mask = self.bits_as(ty, cond);
        self.b.ins().bitselect(mask, yes, no)
    }

    /// The same bits as another machine type of the same size.
    pub(crate) fn bits_as(&mut self, ty: Type, value: clif::Value) -> clif::Value {
        if self.type_of(value) == ty {
            return value;
        }
        let flags = clif::MemFlagsData::new().with_endianness(clif::Endianness::Little);
        self.b.ins().bitcast(ty, flags, value)
    }
}
