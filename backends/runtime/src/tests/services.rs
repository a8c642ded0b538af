//! The table of services, read as compiled code reads it: a pointer at `8 i`, called by its signature.

use std::{
    mem::transmute,
    sync::atomic::{AtomicI64, Ordering},
};

use crate::{
    Pool, SERVICES, Services,
    gemm::{Epilogue, GemmF32},
    services::ParallelBody,
    sort::SortRows,
};

use super::allocations;

/// The address that stands at `8 i` for the service of this name.
fn load(services: &Services, name: &str) -> *const () {
    let index = SERVICES.iter().position(|service| *service == name).unwrap();
    // SAFETY: the table is first in the structure and has an entry per name.
    let address = unsafe { *(&raw const *services).cast::<*const ()>().add(index) };
    assert_eq!(Services::address(index), Some(address.addr()));
    address
}

#[test]
fn names_are_unique_and_in_the_order_of_the_abi() {
    assert_eq!(SERVICES.len(), 40);
    assert_eq!(SERVICES[..6], ["parallel_for", "gemm_f32", "gemm_i8", "sort", "exp_f64", "log_f64"]);
    assert_eq!(SERVICES[18..20], ["erf_f64", "exp_f32"]);
    assert_eq!(
        SERVICES[33..],
        ["erf_f32", "pow_f64", "pow_f32", "fmod_f64", "fmod_f32", "f16_to_f32", "f32_to_f16"]
    );
    for (i, name) in SERVICES.iter().enumerate() {
        assert!(!SERVICES[..i].contains(name), "{name}");
    }
    assert_eq!(Services::address(SERVICES.len()), None);
}

#[test]
fn every_function_stands_under_its_name() {
    type Case = (&'static str, fn(f64) -> f64, f64);
    let unary: [Case; 14] = [
        ("exp", f64::exp, 0.7),
        ("log", f64::ln, 0.7),
        ("sin", f64::sin, 0.7),
        ("cos", f64::cos, 0.7),
        ("tan", f64::tan, 0.7),
        ("asin", f64::asin, 0.7),
        ("acos", f64::acos, 0.7),
        ("atan", f64::atan, 0.7),
        ("sinh", f64::sinh, 0.7),
        ("cosh", f64::cosh, 0.7),
        ("tanh", f64::tanh, 0.7),
        ("asinh", f64::asinh, 0.7),
        ("acosh", f64::acosh, 1.7),
        ("atanh", f64::atanh, 0.7),
    ];
    let services = Services::new(Pool::new(1));
    let close = |name: &str, found: f64, expected: f64, tolerance: f64| {
        assert!((found - expected).abs() <= tolerance, "{name}: {found} {expected}");
    };
    // erf(0.7), from tables.
    let erf = ("erf", 0.677_801_193_837_418_5, 0.7);
    let expected = unary.map(|(name, function, x)| (name, function(x), x));
    for (name, expected, x) in expected.into_iter().chain([erf]) {
        // SAFETY: the signatures are those of the services with these names.
        unsafe {
            let double: extern "C" fn(f64) -> f64 = transmute(load(&services, &format!("{name}_f64")));
            close(name, double(x), expected, 1e-14);
            let single: extern "C" fn(f32) -> f32 = transmute(load(&services, &format!("{name}_f32")));
            close(name, single(x as f32).into(), expected, 1e-6);
        }
    }
    // SAFETY: as above.
    unsafe {
        let pow: extern "C" fn(f64, f64) -> f64 = transmute(load(&services, "pow_f64"));
        let fmod: extern "C" fn(f64, f64) -> f64 = transmute(load(&services, "fmod_f64"));
        assert_eq!((pow(2.0, 3.0), fmod(-7.5, 2.0)), (8.0, -1.5));
        let pow: extern "C" fn(f32, f32) -> f32 = transmute(load(&services, "pow_f32"));
        let fmod: extern "C" fn(f32, f32) -> f32 = transmute(load(&services, "fmod_f32"));
        assert_eq!((pow(2.0, 3.0), fmod(-7.5, 2.0)), (8.0, -1.5));
        let widen: extern "C" fn(u32) -> f32 = transmute(load(&services, "f16_to_f32"));
        let narrow: extern "C" fn(f32) -> u32 = transmute(load(&services, "f32_to_f16"));
        assert_eq!((widen(0x3e00), narrow(1.5)), (1.5, 0x3e00));
    }
}

#[test]
fn a_loop_covers_its_extent_and_passes_the_services_on() {
    unsafe extern "C" fn body(services: *const Services, frame: *const u8, begin: i64, end: i64) {
        // SAFETY: the frame is the counter and its expected services below.
        let (sum, expected) = unsafe { &*frame.cast::<(AtomicI64, usize)>() };
        assert_eq!(services.addr(), *expected);
        sum.fetch_add((begin..end).sum(), Ordering::Relaxed);
    }
    for threads in [1, 3] {
        let services = Services::new(Pool::new(threads));
        // SAFETY: the signature is that of the service; the frame outlives the call.
        let parallel_for: unsafe extern "C" fn(*const Services, i64, i64, ParallelBody, *const u8) =
            unsafe { transmute(load(&services, "parallel_for")) };
        for (extent, expected) in [(0, 0), (1, 0), (1000, 499_500)] {
            let frame = (AtomicI64::new(0), (&raw const services).addr());
            // SAFETY: as above.
            unsafe { parallel_for(&services, extent, 7, body, (&raw const frame).cast()) };
            assert_eq!(frame.0.into_inner(), expected);
        }
    }
}

#[test]
fn a_product_leaves_through_its_epilogue() {
    unsafe extern "C" fn store(
        _: *const std::ffi::c_void,
        frame: *const u8,
        tile: *const f32,
        ld: i64,
        row: i64,
        rows: i64,
        col: i64,
        cols: i64,
    ) {
        for r in 0..rows {
            for c in 0..cols {
                // SAFETY: the frame is a 2 x 2 matrix, and the tile lies within it.
                unsafe {
                    let out = frame.cast_mut().cast::<f32>().offset(((row + r) * 2 + col + c) as isize);
                    *out = *tile.offset((r * ld + c) as isize);
                }
            }
        }
    }
    let (a, b, mut c) = ([1.0_f32, 2.0, 3.0, 4.0], [5.0_f32, 6.0, 7.0, 8.0], [0.0_f32; 4]);
    let call = GemmF32 {
        m: 2,
        n: 2,
        k: 2,
        a: a.as_ptr(),
        a_row: 2,
        a_col: 1,
        a_type: 0,
        window: std::ptr::null(),
        b: b.as_ptr(),
        b_row: 2,
        b_col: 1,
        packed: 0,
        b_type: 0,
        scales: std::ptr::null(),
        transposed: 0,
        groups: std::ptr::null(),
        epilogue: store as Epilogue,
        frame: c.as_mut_ptr().cast(),
    };
    let services = Services::new(Pool::new(2));
    // SAFETY: the signature is that of the service; the matrices are as `call` says.
    unsafe {
        let gemm: unsafe extern "C" fn(*const Services, *const GemmF32) =
            transmute(load(&services, "gemm_f32"));
        gemm(&services, &call);
    }
    assert_eq!(c, [19.0, 22.0, 43.0, 50.0]);
}

#[test]
fn a_sort_leaves_its_keys_and_allocates_nothing() {
    let keys = [2.0_f64, -1.0, f64::NAN, 7.0];
    let (mut values, mut positions, mut scratch) = ([0.0_f64; 3], [0_i64; 4], [[0_i64; 2]; 4]);
    let call = SortRows {
        outer: 1,
        n: 4,
        inner: 1,
        keys: keys.as_ptr().cast(),
        bytes: 8,
        class: 2,
        infinity: f64::INFINITY.to_bits().cast_signed(),
        descending: 0,
        values: values.as_mut_ptr().cast(),
        values_len: 3,
        positions: positions.as_mut_ptr(),
        positions_len: 4,
        scratch: scratch.as_mut_ptr(),
        tasks: 1,
    };
    let services = Services::new(Pool::new(2));
    let before = allocations::count();
    // SAFETY: the signature is that of the service; the arrays are as `call` says.
    unsafe {
        let sort: unsafe extern "C" fn(*const Services, *const SortRows) = transmute(load(&services, "sort"));
        sort(&services, &call);
    }
    assert_eq!(allocations::count(), before);
    assert_eq!((values, positions), ([-1.0, 2.0, 7.0], [1, 0, 3, 2]));
    assert_eq!(keys[..2], [2.0, -1.0]);
}
