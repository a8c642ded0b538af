struct MmaTF32 {
  // To the nearest number of 11 binary digits, of two as near to the one farther from zero.
  static __device__ float rounded(float x) {
#ifdef EGRAFT_SHIM
    return x != x ? x : __int_as_float((__float_as_int(x) + 0x1000) & ~0x1fff);
#else
    u32 bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return __int_as_float((int)bits);
#endif
  }
  template <class Packs> static __device__ void prepare(Packs& packs) {
    #pragma unroll
    for (auto& pack : packs)
      for (float& x : pack.of) x = rounded(x);
  }
  __device__ void operator()(float (&sums)[4], const u32 (&a)[4], u32 b0, u32 b1) const {
#ifdef EGRAFT_SHIM
    shim::mma_tf32(sums, a, b0, b1);
#else
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
  }
};
