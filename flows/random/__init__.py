"""The random stream: counter-based, the same on every engine, chunk and thread.

Random numbers are a pure function of (seed, name, step, draw, particle, coordinate).
Nothing is consumed, so a rejected step, a resumed run, a chunk of the particles or
another number of threads meets the same numbers.

The stream never changes. It is Philox4x32-10 with

* key: the first 8 bytes, little endian, of ``blake2b(f"{seed}:{name}")``; the low
  32 bits are the first key word;
* counter: (particle low, particle high ^ block << 16 ^ draw << 24, step low, step
  high), in 32-bit words. A block is one call, hence four words: two coordinates in
  float64, four in float32;
* the block field has 8 bits. A particle with more than 256 blocks takes
  ``folds = ceil(blocks / 256)`` consecutive particle numbers: block b of particle i is
  block ``b % 256`` of particle ``i * folds + b // 256``.

Uniforms in float64 come from words (0, 1) and (2, 3), low word first; in float32 from
one word each. With m the leading 52 (23) bits they are (m + 1/2) 2^-52, inside (0, 1).

Normals are made by Box and Muller from pairs of uniforms,

    u1 = (m1 + 1) 2^-53,  u2 = m2 2^-53,  z0 + i z1 = sqrt(-2 log u1) exp(2 pi i u2),

m1 and m2 being the leading 53 bits of words (0, 1) and (2, 3). In float32 they are the
leading 24 bits of words 0 and 1 for z0, z1, and of words 2 and 3 for z2, z3.

Logarithm, cosine and sine are written out in correctly rounded operations (+, -, *, /,
sqrt) without fused multiply-add. The engines (NumPy here, numba for large draws)
therefore agree to the last bit, and so does every machine with IEEE arithmetic.

References
----------
J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, Parallel random numbers: as easy as
1, 2, 3, SC'11 (2011), doi:10.1145/2063384.2063405.
G. E. P. Box, M. E. Muller, A note on the generation of random normal deviates,
Ann. Math. Statist. 29 (1958), 610-611, doi:10.1214/aoms/1177706645.
P. T. P. Tang, Table-driven implementation of the logarithm function in IEEE
floating-point arithmetic, ACM Trans. Math. Softw. 16 (1990), doi:10.1145/98267.98294.
The polynomials are those of FDLIBM (float64) and Cephes (float32).
"""

from flows.random.stream import Stream, as_seed

__all__ = ["Stream", "as_seed"]
