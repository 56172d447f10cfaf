"""Sources of the loops around compiled steps: equal steps, and steps with control.

All arithmetic on the lanes is in loops without branches and calls, over arrays that are
made in the same function: LLVM turns those into vector instructions. Only a lane whose
point has arrived, and gets the next one, is looked at alone.
"""

from __future__ import annotations

import math

__all__ = ["LOOPS"]


def horner(coefficients: list[float], x: str) -> str:
    """A polynomial in ``x``, the constant first."""
    *rest, text = map(repr, coefficients)
    for c in reversed(rest):
        text = f"({text}*{x} + {c})"
    return text


# Steps of all lanes with the controller of ``control.PI``. ``powers`` has log x in
# ``logs`` and x^a exp(out) in ``out``, to twelve digits, without the calls that would
# keep LLVM from vector instructions: log m = 2 atanh((m - 1)/(m + 1)) for the mantissa
# m, exp by its Taylor polynomial.
LOOPS = """
@parallel
def fixed(u, out, t0, h, n, p):
    blocks = (u.shape[0] + LANES - 1) // LANES
    for b in numba.prange(blocks):
        low = b * LANES
        m = min(LANES, u.shape[0] - low)
        x, k, y = np.ones((d, LANES)), np.ones((d, LANES)), np.ones((d, LANES))
        e, f = np.ones((d, LANES)), np.ones((d, LANES))
        t, size = np.full(LANES, t0), np.full(LANES, h)
        for i in range(m):
            for j in range(d):
                x[j, i] = u[low + i, j]
        slopes(x, t, p, k)
        for s in range(n):
            attempt(x, k, t, size, p, y, e, f)
            # Outputs that are inputs would keep LLVM from vector instructions.
            x, y, k, f = y, x, f, k
            t[:] = t0 + (s + 1) * h
            if not fsal:
                slopes(x, t, p, k)
        for i in range(m):
            for j in range(d):
                out[low + i, j] = x[j, i]


@compiled
def norm(e, x, y, i, rtol, atol):
    total = 0.0
    for j in range(d):
        scaled = e[j, i] / (atol + rtol * max(abs(x[j, i]), abs(y[j, i])))
        total += scaled * scaled
    return math.sqrt(total / d)


@inlined
def norms(e, x, y, rtol, atol, out):
    for i in range(LANES):
        out[i] = norm(e, x, y, i, rtol, atol)


@inlined
def powers(x, a, bits, logs, out):
    whole, number, mantissa, scale = bits
    for i in range(LANES):
        number[i] = x[i]
    for i in range(LANES):
        mantissa[i] = (whole[i] & 0x000FFFFFFFFFFFFF) | 0x3FF0000000000000
        whole[i] = (whole[i] >> 52) - 1023
    for i in range(LANES):
        big = 1.0 if scale[i] > 1.4142135623730951 else 0.0
        m = scale[i] * (1.0 - 0.5 * big)
        s = (m - 1.0) / (m + 1.0)
        q = s * s
        logs[i] = (whole[i] + big) * 0.6931471805599453 + 2.0 * s * (LOGARITHM)
    for i in range(LANES):
        z = min(max(a[i] * logs[i] + out[i], -700.0), 700.0)
        k = math.floor(z * 1.4426950408889634 + 0.5)
        s = (z - k * 6.93147180369123816490e-01) - k * 1.90821492927058770002e-10
        out[i] = EXPONENTIAL
        whole[i] = (np.int64(k) + 1023) << 52
    for i in range(LANES):
        out[i] *= number[i]


@compiled
def firsts(x, k, t, span, p, order, rtol, atol, y, f, a, bits, logs, d0, d1, h):
    norms(x, x, x, rtol, atol, d0)
    norms(k, x, x, rtol, atol, d1)
    for i in range(LANES):
        guess = 1e-6 if d0[i] < 1e-5 or d1[i] < 1e-5 else 0.01 * d0[i] / d1[i]
        d0[i] = min(guess, span)
        h[i] = t[i] + d0[i]
    for j in range(d):
        for i in range(LANES):
            y[j, i] = x[j, i] + d0[i] * k[j, i]
    slopes(y, h, p, f)
    for j in range(d):
        for i in range(LANES):
            f[j, i] -= k[j, i]
    norms(f, x, x, rtol, atol, h)
    for i in range(LANES):
        d1[i] = max(d1[i], h[i] / d0[i])
        a[i] = -1.0 / (order + 1)
        h[i] = math.log(0.01) / (order + 1)
    powers(d1, a, bits, logs, h)
    for i in range(LANES):
        steep = max(1e-6, 1e-3 * d0[i]) if d1[i] <= 1e-15 else h[i]
        size = min(100.0 * d0[i], steep, span)
        size = size if d1[i] < math.inf else d0[i] * 1e-2
        h[i] = size if size > 0.0 else min(1e-6, span)


@parallel
def adaptive(u, out, counts, portion, t0, stop, p, orders, limits, pi):
    order, q = orders
    rtol, atol, start, largest, most = limits
    integral, proportional, safety, low, high = pi
    shortest = 16.0 * 2.3e-16
    room = LANES * ((portion + LANES - 1) // LANES)
    pieces = (u.shape[0] + portion - 1) // portion
    for piece in numba.prange(pieces):
        begin = piece * portion
        end = min(begin + portion, u.shape[0])
        x, k, y = np.ones((d, LANES)), np.ones((d, LANES)), np.ones((d, LANES))
        e, f = np.ones((d, LANES)), np.ones((d, LANES))
        t, h, size = np.ones(LANES), np.ones(LANES), np.ones(LANES)
        ratio, factor, power = np.ones(LANES), np.ones(LANES), np.ones(LANES)
        whole, mantissa = np.ones(LANES, np.int64), np.ones(LANES, np.int64)
        bits = whole, whole.view(np.float64), mantissa, mantissa.view(np.float64)
        # Logarithms of the last errors, and of those before.
        logs, previous = np.ones(LANES), np.ones(LANES)
        landing, passed, again = np.ones(LANES), np.ones(LANES), np.ones(LANES)
        taken, refused, bad = np.ones(LANES), np.ones(LANES), np.ones(LANES)
        # The slopes and the first step of every point of the piece.
        begun, first = np.ones((d, room)), np.ones(room)
        t[:] = t0
        for b in range(begin, end, LANES):
            for i in range(LANES):
                for j in range(d):
                    x[j, i] = u[min(b + i, end - 1), j]
            slopes(x, t, p, k)
            h[:] = start
            if start == 0.0:
                span = min(stop - t0, largest)
                firsts(
                    x, k, t, span, p, order, rtol, atol, y, f,
                    power, bits, logs, ratio, factor, h,
                )
            for i in range(LANES):
                first[b - begin + i] = max(h[i], shortest * abs(t0))
                for j in range(d):
                    begun[j, b - begin + i] = k[j, i]
        who = np.full(LANES, -1)
        # A lane without a point goes on with steps of size 0.
        t[:] = stop
        waiting, active = begin, 0
        while True:
            for i in range(LANES):
                if t[i] < stop:
                    continue
                if who[i] >= 0:
                    me = who[i]
                    for j in range(d):
                        out[me, j] = x[j, i]
                    calls = stages * (taken[i] + refused[i]) + 1 + (start == 0.0)
                    counts[0, me], counts[1, me] = taken[i], refused[i]
                    counts[2, me] = calls if fsal else calls + taken[i] - 1
                    counts[3, me] = bad[i] > 10.0
                    who[i] = -1
                    active -= 1
                if waiting < end:
                    who[i] = waiting
                    active += 1
                    for j in range(d):
                        x[j, i] = u[waiting, j]
                        k[j, i] = begun[j, waiting - begin]
                    t[i], h[i] = t0, first[waiting - begin]
                    previous[i] = bad[i] = again[i] = taken[i] = refused[i] = 0.0
                    waiting += 1
            if active == 0:
                break
            for i in range(LANES):
                remaining = stop - t[i]
                landing[i] = 1.0 if h[i] >= remaining * (1 - 1e-12) else 0.0
                size[i] = remaining if landing[i] > 0.0 else min(h[i], 0.5 * remaining)
                small = h[i] < shortest * abs(t[i]) and h[i] < remaining
                bad[i] = 99.0 if small or taken[i] + refused[i] >= most else bad[i]
            attempt(x, k, t, size, p, y, e, f)
            norms(e, x, y, rtol, atol, ratio)
            for i in range(LANES):
                passed[i] = 1.0 if ratio[i] <= 1.0 else 0.0
                power[i] = -1.0 / q
                power[i] -= passed[i] * (integral + proportional - 1.0) / q
                factor[i] = passed[i] * proportional / q * previous[i]
            powers(ratio, power, bits, logs, factor)
            for i in range(LANES):
                grown = high if ratio[i] == 0.0 else safety * factor[i]
                grown = min(high, max(low, grown))
                grown = size[i] * (min(1.0, grown) if again[i] > 0.0 else grown)
                cut = size[i] < h[i] and again[i] == 0.0
                grown = max(grown, h[i]) if cut else grown
                kept = previous[i] if cut else max(logs[i], -9.210340371976182)
                shorter = min(0.9, max(low, safety * factor[i]))
                finite = ratio[i] < math.inf
                shorter = size[i] * (shorter if finite else 0.25)
                good = passed[i] > 0.0
                previous[i] = kept if good else previous[i]
                h[i] = min(grown, largest) if good else shorter
                worse = bad[i] if finite else bad[i] + 1.0
                bad[i] = 0.0 if good and bad[i] <= 10.0 else worse
                landed = stop if landing[i] > 0.0 else t[i] + size[i]
                t[i] = landed if good else t[i]
                again[i] = 1.0 - passed[i]
                taken[i] += passed[i]
                refused[i] += again[i]
                t[i] = stop if bad[i] > 10.0 else t[i]
            for j in range(d):
                for i in range(LANES):
                    x[j, i] = y[j, i] if passed[i] > 0.0 else x[j, i]
                    k[j, i] = f[j, i] if passed[i] > 0.0 else k[j, i]
            if not fsal:
                slopes(x, t, p, k)
""".replace("LOGARITHM", horner([1.0 / (2 * j + 1) for j in range(8)], "q")).replace(
    "EXPONENTIAL", horner([1.0 / math.factorial(j) for j in range(11)], "s")
)
