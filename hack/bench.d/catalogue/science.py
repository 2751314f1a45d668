"""Simulations, algebra and search."""

from __future__ import annotations

from catalogue.describing import Group, Workload, same

_MELT = """
units lj
atom_style atomic
lattice fcc 0.8442
region box block 0 12 0 12 0 12
create_box 1 box
create_atoms 1 box
mass 1 1.0
velocity all create 3.0 87287 loop geom
pair_style lj/cut 2.5
pair_coeff 1 1 1.0 1.0 2.5
neighbor 0.3 bin
neigh_modify every 20 delay 0 check no
fix 1 all nve
thermo 25
thermo_modify flush yes
run 400
"""

_WATER = """
set -e
cd /tmp
export GMX_MAXBACKUP=-1
gmx -quiet solvate -cs spc216.gro -box 2.6 2.6 2.6 -o water.gro
cat >topology.top <<END
#include "oplsaa.ff/forcefield.itp"
#include "oplsaa.ff/spce.itp"
[ system ]
water
[ molecules ]
SOL $(($(sed -n 2p water.gro) / 3))
END
cat >run.mdp <<END
integrator = md
nsteps = 1200
dt = 0.001
nstxout = 100
nstenergy = 100
coulombtype = PME
tcoupl = v-rescale
tc-grps = System
tau-t = 0.1
ref-t = 300
gen-vel = yes
gen-temp = 300
gen-seed = 7
ld-seed = 7
constraints = h-bonds
END
printf 'integrator = steep\\nnsteps = 100\\ncoulombtype = PME\\n' >relax.mdp
gmx -quiet grompp -f relax.mdp -c water.gro -p topology.top -o relax.tpr
gmx -quiet mdrun -s relax.tpr -deffnm relax -ntmpi 1 -ntomp 2 -pin off -reprod -nb cpu
gmx -quiet grompp -f run.mdp -c relax.gro -p topology.top -o run.tpr -maxwarn 5
echo begun
gmx -quiet mdrun -s run.tpr -deffnm run -ntmpi 1 -ntomp 2 -pin off -reprod -nb cpu
gmx -quiet dump -f run.trr | sha256sum
"""

_OCTAVE = """
rand("twister", 7); total = 0;
for round = 1:40
  a = rand(220); total += sum(abs(eig(a))) + norm(inv(a + 220 * eye(220)));
  printf("%d %.15g\\n", round, total); fflush(stdout);
end
"""

_GP = 'for(n = 150, 250, f = factor(2^n - 1); print(n, ": ", f[matsize(f)[1], 1]))'

GROUP = Group(
    title="Simulations, algebra and search",
    workloads=(
        Workload(
            name="lammps",
            program="LAMMPS",
            does="a melt of 6,912 atoms",
            packages=("lammps", "openmpi-bin"),
            files={"/opt/melt.in": _MELT},
            words=("lmp", "-in", "/opt/melt.in", "-log", "none"),
            progress=r"^ +150 ",
            check=same(r"^ +\d+ +\d\S+ +-\d.*$"),
        ),
        Workload(
            name="openmpi",
            program="Open MPI",
            does="the same melt by LAMMPS on two ranks",
            packages=("lammps", "openmpi-bin"),
            versioned="openmpi-bin",
            files={"/opt/melt.in": _MELT},
            environment={"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"},
            words=("mpirun", "-np", "2", "--oversubscribe", "lmp", "-in", "/opt/melt.in", "-log", "none"),
            progress=r"^ +150 ",
            check=same(r"^ +\d+ +\d\S+ +-\d.*$"),
            note="mpirun gives each rank a terminal of its own.",
        ),
        Workload(
            name="gromacs",
            program="GROMACS",
            does="a box of water, with two OpenMP threads",
            packages=("gromacs", "gromacs-data"),
            words=("bash", "-c", _WATER),
            progress="begun",
            settle_s=1.0,
            check=same(r"^[0-9a-f]{64} .*"),
        ),
        Workload(
            name="octave",
            program="GNU Octave",
            does="eigenvalues and inverses of random matrices",
            packages=("octave",),
            words=("octave-cli", "--no-gui", "--quiet", "--eval", _OCTAVE),
            progress="^8 ",
        ),
        Workload(
            name="pari",
            program="PARI/GP",
            does="factors of Mersenne numbers",
            packages=("pari-gp",),
            words=("bash", "-c", f"echo '{_GP}' | gp --quiet --fast"),
            progress="^190:",
        ),
        Workload(
            name="stockfish",
            program="Stockfish",
            does="a chess engine searches its bench positions",
            packages=("stockfish",),
            words=("/usr/games/stockfish", "bench", "16", "1", "12"),
            progress=r"^Position: 10/",
            check=same(r"^Nodes searched.*|^bestmove.*"),
        ),
    ),
)
