"""Butcher tableaus of the explicit Runge-Kutta schemes, and that of Rosenbrock's.

Coefficients are written as in their papers (fractions, or decimals to more digits than
a double holds) and rounded once.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

__all__ = [
    "BOGACKI_SHAMPINE",
    "DOP853",
    "DOP853_THIRD",
    "DORMAND_PRINCE",
    "EULER",
    "EXTRAGRADIENT",
    "HEUN",
    "RODASP",
    "RUNGE_KUTTA_4",
    "TSITOURAS",
    "LinearTableau",
    "Row",
    "Tableau",
    "read_row",
    "row_of",
    "tableau",
]

Row = tuple[tuple[int, float], ...]
"""The nonzero coefficients of one stage with the stage they belong to."""


@dataclass(frozen=True)
class Tableau:
    """Explicit Runge-Kutta method, stored without its zeros.

    Attributes
    ----------
    stages : tuple of (c_i, ((j, a_ij), ...))
        Second stage and later; the first one is the slope at (t, u).
    weights : Row
        b. In a tableau with ``fsal`` these are the coefficients of the last stage.
    error : Row
        b - b^: difference to the embedded method; empty when there is none.
    fsal : bool
        Whether the last stage is the slope at the new state.
    """

    stages: tuple[tuple[float, Row], ...]
    weights: Row
    error: Row = ()
    fsal: bool = False


@dataclass(frozen=True)
class LinearTableau:
    """Rosenbrock method in the variables U_i = sum_j gamma_ij k_j.

    The last two rows of ``stages`` end with 1 more each, so that the last stage is the
    difference to the embedded method.

    Attributes
    ----------
    gamma : float
        The diagonal of gamma_ij.
    times, slopes : tuple of float
        Nodes, and sums of the rows gamma_ij, which weigh the derivative in time.
    stages, couplings : tuple of tuple of float
        Rows a_ij and c_ij.
    """

    gamma: float
    times: tuple[float, ...]
    slopes: tuple[float, ...]
    stages: tuple[tuple[float, ...], ...]
    couplings: tuple[tuple[float, ...], ...]


def read_row(text: str) -> list[Fraction]:
    """Fractions from ``"1/2 -0.25 3"``."""
    return [Fraction(word) for word in text.split()]


def row_of(values: list[Fraction]) -> Row:
    """Nonzero entries as floats, with their positions."""
    return tuple((j, float(value)) for j, value in enumerate(values) if value)


def tableau(*rows: str, error: str = "") -> Tableau:
    """Tableau from the rows a_2, a_3, ..., b, and b - b^ where there is one.

    The nodes c_i are the row sums. The method is FSAL when ``error`` has one entry
    more than b, the weight of the slope at the new state.
    """
    *a, b = (read_row(row) for row in rows)
    difference = read_row(error)
    fsal = len(difference) == len(b) + 1
    stages = [*a, b] if fsal else a
    return Tableau(
        stages=tuple((float(sum(row)), row_of(row)) for row in stages),
        weights=row_of(b),
        error=row_of(difference),
        fsal=fsal,
    )


EULER = tableau("1")

EXTRAGRADIENT = tableau("1", "0 1")

HEUN = tableau("1", "1/2 1/2", error="-1/2 1/2")

RUNGE_KUTTA_4 = tableau("1/2", "0 1/2", "0 0 1", "1/6 1/3 1/3 1/6")

BOGACKI_SHAMPINE = tableau(
    "1/2",
    "0 3/4",
    "2/9 1/3 4/9",
    error="-5/72 1/12 1/9 -1/8",
)

DORMAND_PRINCE = tableau(
    "1/5",
    "3/40 9/40",
    "44/45 -56/15 32/9",
    "19372/6561 -25360/2187 64448/6561 -212/729",
    "9017/3168 -355/33 46732/5247 49/176 -5103/18656",
    "35/384 0 500/1113 125/192 -2187/6784 11/84",
    error="71/57600 0 -71/16695 71/1920 -17253/339200 22/525 -1/40",
)

# c_2, c_3, c_4, b_2 and the last error weight are the free decimals of the paper; the
# others solve its order conditions to 25 digits.
TSITOURAS = tableau(
    "0.161",
    "-0.008480655492356988544426874 0.3354806554923569885444269",
    "2.897153057105493432130433 -6.35944848997507484314816 4.362295432869581411017727",
    "5.325864828439256604428878 -11.74888356406282787774717 7.495539342889836208304605"
    " -0.09249506636175524925650208",
    "5.861455442946420028659251 -12.92096931784710929170612 8.159367898576158643180401"
    " -0.07158497328140099722453054 -0.02826905039406838290900306",
    "0.09646076681806522951816731 0.01 0.4798896504144995747752495"
    " 1.379008574103741893192275 -3.290069515436080679901048"
    " 2.324710524099773982415356",
    error="-0.001780011052225771443378551 -0.0008164344596567469032236361"
    " 0.007880878010261996010314728 -0.1447110071732629075371651"
    " 0.5823571654525552250199376 -0.4580821059291869466616365 1/66",
)

# The eighth-order method of DOP853 and its difference to the fifth-order one.
DOP853 = tableau(
    "0.0526001519587677318785587544488",
    "0.0197250569845378994544595329183 0.0591751709536136983633785987549",
    "0.0295875854768068491816892993775 0 0.0887627564304205475450678981324",
    "0.241365134159266685502369798665 0 -0.884549479328286085344864962717"
    " 0.924834003261792003115737966543",
    "0.037037037037037037037037037037 0 0"
    " 0.170828608729473871279604482173 0.125467687566822425016691814123",
    "0.037109375 0 0 0.170252211019544039314978060272"
    " 0.0602165389804559606850219397283 -0.017578125",
    "0.0370920001185047927108779319836 0 0"
    " 0.170383925712239993810214054705 0.107262030446373284651809199168"
    " -0.0153194377486244017527936158236"
    " 0.00827378916381402288758473766002",
    "0.624110958716075717114429577812 0 0"
    " -3.36089262944694129406857109825 -0.868219346841726006818189891453"
    " 27.5920996994467083049415600797 20.1540675504778934086186788979"
    " -43.4898841810699588477366255144",
    "0.477662536438264365890433908527 0 0"
    " -2.48811461997166764192642586468 -0.590290826836842996371446475743"
    " 21.2300514481811942347288949897 15.2792336328824235832596922938"
    " -33.2882109689848629194453265587 -0.0203312017085086261358222928593",
    "-0.93714243008598732571704021658 0 0 5.18637242884406370830023853209"
    " 1.09143734899672957818500254654 -8.14978701074692612513997267357"
    " -18.5200656599969598641566180701 22.7394870993505042818970056734"
    " 2.49360555267965238987089396762 -3.0467644718982195003823669022",
    "2.27331014751653820792359768449 0 0 -10.5344954667372501984066689879"
    " -2.00087205822486249909675718444 -17.9589318631187989172765950534"
    " 27.9488845294199600508499808837 -2.85899827713502369474065508674"
    " -8.87285693353062954433549289258 12.3605671757943030647266201528"
    " 0.643392746015763530355970484046",
    "0.0542937341165687622380535766363 0 0 0 0"
    " 4.45031289275240888144113950566 1.89151789931450038304281599044"
    " -5.8012039600105847814672114227 0.31116436695781989440891606237"
    " -0.152160949662516078556178806805 0.201365400804030348374776537501"
    " 0.0447106157277725905176885569043",
    error="0.01312004499419488073250102996 0 0 0 0"
    " -1.225156446376204440720569753 -0.4957589496572501915214079952"
    " 1.664377182454986536961530415 -0.350328848749973681688648729"
    " 0.3341791187130174790297318841 0.08192320648511571246570742613"
    " -0.02235530786388629525884427845",
)

# Difference to the third-order method of DOP853, whose weights are 31/127, 3/136 and
# what is left of 1.
DOP853_THIRD: Row = tuple(
    (j, weight - {0: 31 / 127, 8: 1 - 31 / 127 - 3 / 136, 11: 3 / 136}.get(j, 0.0))
    for j, weight in DOP853.weights
)

RODASP = LinearTableau(
    gamma=0.25,
    times=(0.0, 0.75, 0.21, 0.63, 1.0, 1.0),
    slopes=(0.25, -0.5, -0.023504, -0.0362, 0.0, 0.0),
    stages=(
        (),
        (3.0,),
        (1.831036793486759, 0.4955183967433795),
        (2.304376582692669, -0.05249275245743001, -1.176798761832782),
        (
            -7.170454962423024,
            -4.741636671481785,
            -16.31002631330971,
            -1.062004044111401,
        ),
        (
            -7.170454962423024,
            -4.741636671481785,
            -16.31002631330971,
            -1.062004044111401,
            1.0,
        ),
    ),
    couplings=(
        (),
        (-12.0,),
        (-8.791795173947035, -2.207865586973518),
        (10.81793056857153, 6.780270611428266, 19.53485944642410),
        (34.19095006749676, 15.49671153725963, 54.74760875964130, 14.16005392148534),
        (
            34.62605830930532,
            15.30084976114473,
            56.99955578662667,
            18.40807009793095,
            -5.714285714285717,
        ),
    ),
)
