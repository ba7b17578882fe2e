// Plots under way: building, weather, animals, lost paths, water and the night.
#include "datasets/story_plots.h"

namespace attar {
namespace {

constexpr std::string_view kWorks[] = {"tree house", "sand castle", "bird house",  "raft",          "bridge",
                                       "tent",       "cart",        "stone tower", "chicken house", "swing"};
constexpr std::string_view kSteps[] = {"drew a plan",    "carried the wood", "brought some rope", "cleaned the ground",
                                       "found a hammer", "fetched water",    "collected stones",  "counted the nails"};
constexpr std::string_view kFailures[] = {"the wind was too strong", "the ground was too soft",
                                          "the rope was too short",  "a cow bumped into it",
                                          "one side was too heavy",  "the nails were too small"};
constexpr std::string_view kAnimals[] = {"kitten", "puppy", "duckling", "bird", "hedgehog", "donkey", "lamb", "goose"};
constexpr std::string_view kMeals[] = {"milk",  "bread", "fish", "cheese", "corn",
                                       "grass", "soup",  "hay",  "rice",   "porridge"};
constexpr std::string_view kRoads[] = {"past the mill",        "over the wooden bridge", "along the stream",
                                       "through the gate",     "around the pond",        "up the hill",
                                       "between the two oaks", "down the stone steps"};
constexpr std::string_view kAstray[] = {"the fog was so thick",          "it had become dark",
                                        "the snow hid the path",         "the sign had fallen down",
                                        "all the trees looked the same", "the path was covered with leaves"};
constexpr std::string_view kNoises[] = {"an owl",           "the old cat",   "a loose board", "an old clock",
                                        "a broken shutter", "a small mouse", "the wind",      "a raccoon"};
constexpr std::string_view kFears[] = {"a ghost", "a monster", "a thief", "a dragon", "a wolf"};
constexpr std::string_view kNightSpots[] = {"in the attic", "in the cellar",  "behind the wall",
                                            "on the roof",  "in the kitchen", "outside the window",
                                            "in the hall",  "under the floor"};

}  // namespace

void building(Story& s) {
  const std::string_view work = s.pick(kWorks), one = s.pick(kSteps), two = other_than(s, kSteps, {one}),
                         failure = s.pick(kFailures);
  s.bind('b', work);
  s.bind('a', one);
  s.bind('c', two);
  s.bind('w', failure);
  s.bind('t', s.pick(colours()));
  introduce_hero(s);
  introduce_friend(s);
  s.say(
      "{One [D]|On @ [D]|During the holidays}, [H] {said to [F], \"{Let us build|We could build|I want to build} @ [b] "
      "{near|by} the "
      "[P].\"|and [F] {decided|wanted|made a plan} to build @ [b] {near|by} the [P].}");
  const bool hero_first = s.chance(50);
  s.bind('X', s.person(hero_first ? 'H' : 'F'));
  s.bind('Y', s.person(hero_first ? 'F' : 'H'));
  s.say("First, [X] [a]{| {because that was important|with care|while [Y] {watched|waited|sang}}}.");
  s.say("{Then|After that|Next}, [Y] [c]{|, and {they|both of them} began to {build|work}| for the [b]}.");
  s.maybe(60,
          "{They worked {hard|together} {all morning|until noon|without a break}{| on the [b]}|{\"{This is hard "
          "work|We are almost done|Hold this, please},\" "
          "said {[X]|[Y]}}}.");
  s.say("{But|Then,} {suddenly|before they were done|in the afternoon}{|,} the [b] fell down because [w].");
  s.say(
      "{[Y.s] {wanted to give up|was {ready to go home|very upset}}, but [X] {said, \"We will {try again|build a "
      "better one}.\"|{did not stop|"
      "had a new idea}.}|\"{Do not give up|We can do better|We must try again}, [Y],\" said [X].}");
  s.say(
      "{So|Then} they {asked [R] for {help|advice}|made it stronger|used more wood} and {built|made} the [b] "
      "{again|once more}{|, and this "
      "time it {stood|did not fall}}.");
  s.say("{In the end|Finally|At last}, {the [b] was {done|ready}|they finished the [b]}, and [F] painted it [t].");
  s.maybe(50,
          "{[R] came to {see|look at} the [b] and {clapped|was amazed|said that it was beautiful}|\"{We did it|It is "
          "{beautiful|perfect}},\" "
          "said [H]{| happily}}.");
  fact_from(s, "what", "What did [H] and [F] build?", "[H] and [F] built a", kWorks, work);
  fact_from(s, "why", "Why did the [b] fall down?", "The [b] fell down because", kFailures, failure);
  fact_who(s, "Who [a]?", "The one who [a] was", hero_first ? 'H' : 'F', hero_first ? "FR" : "HR");
  fact_from(s, "order", "What did [X] do first?", "the first thing was that [X]", kSteps, one, {two});
  fact_from(s, "colour", "What color was the [b]?", "The [b] was", colours(), s.text_of('t'));
  close(s, "built @ [b] with [F]");
}

void rain(Story& s) {
  pick_toy(s, 'o');
  const std::string_view shelter = s.pick(shelters());
  s.bind('a', shelter);
  s.bind('D', "{sunny|warm|bright|fine} {morning|afternoon|day}");
  static constexpr std::string_view kWeather[] = {"rain", "hail"};
  const std::string_view weather = s.pick(kWeather);
  s.bind('w', weather);
  introduce_hero(s);
  s.say(
      "One [D], [H] and [F] {went|walked|wanted to go} to the [P]{ to {play|have a picnic|look for frogs}| with @ "
      "[o.f]|}.");
  s.maybe(60,
          "{[R] said, \"Take a {coat|warm coat} with you, [H]\"|\"Do not forget your coat, [H],\" said [R]|[R] "
          "{told|warned} [H] about the "
          "{dark|gray} clouds}, but [H] {did not listen|forgot it|left the coat at home}.");
  s.say(
      "{Soon|After an hour|On the way|Near the [L]}, {the sky {turned|became|grew} {dark|gray|black}|dark clouds "
      "{came|covered the "
      "sun}}{, and {the wind blew|it got cold|[F] {felt|saw} the first drops}|}.");
  s.say(
      "{Then|A moment later|Suddenly}, it began to [w]{| {hard|very hard}}, {so|and} [H] and [F] {ran|had to run} {as "
      "fast as they could|for "
      "shelter|away from the [P]}.");
  const char spotter = s.chance(50) ? 'H' : 'F';
  s.bind('X', s.person(spotter));
  s.bind('Y', s.person(spotter == 'H' ? 'F' : 'H'));
  s.say("{[X] {knew|saw} a {dry|good|safe} place [a]|\"Come with me, [Y], we can hide [a],\" {cried|said} [X]}.");
  s.say(
      "{They|[H] and [F]} {sat|stood|waited} [a] {until the [w] stopped|for {an|almost an|half an} hour|and {listened "
      "to|watched} the "
      "[w]}{|, and [Y] {was not afraid any more|told a funny story|sang a song}}.");
  s.maybe(60,
          "{[H] {was wet and cold|sneezed twice|had wet {socks|hair}} because [H.he] had {no coat|left the coat at "
          "home}|[Y] {gave|lent} [X] a "
          "{scarf|dry sock|warm blanket}, because [X.he] was cold}.");
  s.say(
      "{When {the sun came out|it was over}|After the [w]|When the [w] stopped}, {they {walked|went|ran} home|[H] and "
      "[F] {walked|went} "
      "home}{ and saw {a rainbow|many puddles|a wet cat}|}{|, where [R] {made|cooked} {hot tea|warm soup|hot "
      "chocolate}}.");
  fact_from(s, "where", "Where did [H] and [F] hide?", "[H] and [F] hid from the [w]", shelters(), shelter);
  fact_who(s, "Who {knew|found} a place to hide?", "The one who {found|knew} the place [a] was", spotter,
           spotter == 'H' ? "FR" : "HR");
  fact_from(s, "where", "Where were [H] and [F] going that day?", "[H] and [F] were on the way to the", places(),
            s.text_of('P'), {s.text_of('L')});
  close(s, "found a dry place with [F]");
}

void hungry_animal(Story& s) {
  const std::string_view animal = s.pick(kAnimals), wrong1 = s.pick(kMeals), wrong2 = other_than(s, kMeals, {wrong1}),
                         right = other_than(s, kMeals, {wrong1, wrong2});
  const std::string_view spot = s.pick(outdoor_spots()), colour = s.pick(colours());
  const std::string_view pet =
      other_than(s, animal_names(), {s.person('H').name, s.person('F').name, s.person('G').name});
  s.bind('a', animal);
  s.bind('1', wrong1);
  s.bind('2', wrong2);
  s.bind('3', right);
  s.bind('b', spot);
  s.bind('c', colour);
  s.bind('n', pet);
  introduce_hero(s);
  introduce_friend(s);
  s.say("One [D], [H] {found|saw} @ {little|small|thin|tiny} [a] [b].");
  s.maybe(70,
          "{The [a] was {cold|weak|afraid|alone} and {very|so} hungry{| because {nobody had fed it|it had lost its "
          "mother|it was too "
          "small to find food}}|\"{Are you hungry|Where is your mother|Do not be afraid}, little [a],\" {said|asked} "
          "[H]}.");
  s.maybe(60, "[H.s] {carried|took|brought} {it|the [a]} home {in a {basket|box|warm scarf}|very carefully|to [R]}.");
  s.say(
      "{First|At first}, [H] {gave it|offered it|tried} {some |}[1], but {the [a] {did not {like|want|eat} it|turned "
      "its head away|only looked at it}|the "
      "[a] did not like [1]}.");
  s.maybe(80,
          "{Then|Next|After that}, [F] {brought|tried|offered} {some |}[2], but the [a] {did not {like|want|touch} "
          "{it|that} either|{only "
          "sniffed it|walked away from it}}.");
  s.say(
      "{[R] {said|told them}, \"{I think|I know} that @ [a] {likes|eats} [3].\"|[R] {had an idea|knew what to do} and "
      "{brought|found} some [3].|\"Let us "
      "try some [3],\" {said|suggested} [R].}");
  s.say(
      "{And {really|indeed}|This time|Now}, the [a] ate {all the|the} [3]{ in {a minute|no time}| and {wanted "
      "more|went to sleep}|}{!|.}");
  s.say(
      "{{Because|As} the [a] {was [c]|had [c] {eyes|feet}},|It had @ [c] {tail|head|back}, and} {[H] called it [n]|[H] "
      "and [F] "
      "named it [n]}.");
  s.maybe(70,
          "{Every {day|morning} after that|From then on}, [n] {waited for [H] at the {door|gate}|{slept|sat} next to "
          "[H]|followed [H] to the "
          "[L]|got some [3] from [F]}.");
  fact_from(s, "what", "What did the [a] eat {in the end|at last}?", "The [a] ate the", kMeals, right,
            {wrong1, wrong2});
  fact_from(s, "what", "What was the name of the [a]?", "The [a] was named", animal_names(), pet,
            {s.person('H').name, s.person('F').name});
  fact_from(s, "where", "Where did [H] find the [a]?", "[H] found the [a]", outdoor_spots(), spot);
  fact_who(s, "Who knew what the [a] liked?", "The one who {knew about|brought} the [3] was", 'R', "HF");
  close(s, "saved the little [a]");
}

void lost_way(Story& s) {
  const std::string_view one = s.pick(kRoads), two = other_than(s, kRoads, {one}), why = s.pick(kAstray);
  s.bind('a', one);
  s.bind('b', two);
  s.bind('w', why);
  const bool left = s.chance(50);
  const Person& host = s.pick(relatives().subspan(0, 2));
  s.bind('R', s.chance(50) ? host : s.pick(relatives().subspan(4, 2)));
  s.bind('l', left ? "left" : "right");
  s.bind('r', left ? "right" : "left");
  pick_food(s, 'f');
  introduce_hero(s);
  s.say(
      "One [D], [H] {wanted to visit|went to visit|was on the way to} [R]{, who lived {behind|near} the [P], and "
      "carried| with} "
      "a {basket|bag} of [f.m].");
  s.say("{But|Then|After an hour} [H] {lost the way|got lost|did not know the way} because [w].");
  s.maybe(60,
          "{[H.s] was {scared|afraid|worried} and {called for help|sat down on a {stone|log}|wanted to go "
          "home}|\"{Where am I|Which way is it to the "
          "[P]}?\"}.");
  s.say(
      "{Luckily|Just then|After a while}, [S] came {along|by|down the road} and {saw [H]|asked what was wrong|stopped "
      "to help}.");
  s.maybe(50, "\"{I am lost|I cannot find the way}, and I {want|need} to go to [R],\" {said|explained} [H].");
  s.say(
      "[S] {said|answered|told [H.o]}, \"{First go|Go} [a], then turn [l]{| at the {well|church|big tree}}, and "
      "{walk|go} [b].\"");
  s.maybe(60,
          "{[H] {said the words again|thanked [S]|listened well}{| and {went on|gave [S.him] one of the "
          "[f.m]}}|\"{Thank you|You are very kind},\" said "
          "[H] to [S]}.");
  s.say("{First|So}, [H] {went|walked} [a] and {then |}turned [l]{|, not [r]}.");
  s.say(
      "{Then|After that}, [H.s] {went|walked} [b], and {there was {the {house|little house} of [R]|[R]'s house}|soon "
      "[H.he] saw {the light in "
      "[R]'s window|the roof of [R]'s house}}.");
  s.maybe(70,
          "{[R] {hugged|kissed} [H] and {gave [H.him] {hot milk|warm soup}|put [H.his] wet shoes by the fire}|\"{I am "
          "so glad to see you|There you are|Come "
          "in and sit by the fire}, [H],\" said [R]}.");
  fact_who(s, "Who told [H] the way?", "[H] heard the way from", 'S', "RF");
  fact_from(s, "why", "Why did [H] get lost?", "[H] got lost because", kAstray, why);
  fact_from(s, "order", "Where did [H] go first?", "[H] first went", kRoads, one, {two});
  fact_from(s, "order", "Where did [H] go after the turn?", "[H] turned [l] and then went", kRoads, two, {one});
  fact_who(s, "Who did [H] want to visit?", "[H] wanted to visit", 'R', "SF");
  close(s, "found the way to [R]");
}

void swimming(Story& s) {
  pick_toy(s, 'o');
  static constexpr Thing kDay{"day", "days"};
  const int days = s.between(3, 12);
  s.bind('n', counted(days, kDay));
  s.bind('P', s.chance(50) ? "lake" : "river");
  introduce_hero(s);
  introduce_friend(s);
  s.say(
      "{[F] {could swim well|loved to swim|swam like a fish}, but [H] {could not swim|was afraid of {deep |}water|did "
      "not like the "
      "water}|[H] could not swim {and was afraid of the [P]|, but [F] could|because {nobody had taught [H.him]|the "
      "water was so deep}}}.");
  s.say(
      "{So|One [D]}, [R] {said, \"I will teach you to swim, [H].\"|took [H] to the [P] and {showed [H.him] how to "
      "float|began to teach [H.him]}.|"
      "promised to teach [H] {how to |to }swim in the [P].}");
  s.say(
      "{{On the first day|At first}, [H] only {put [H.his] feet into|stood in|looked at} the {cold |}water{| of the "
      "[P]}|First, [H] {learned to {float|hold [H.his] "
      "breath|kick with [H.his] legs}|held on to [R]}{| in the [P]}}.");
  s.maybe(60,
          "{Then|The next day|Later}, [H.s] {swallowed some water {|and {coughed|wanted to stop}, }but {did not give "
          "up|tried again}|{learned|tried} to {move [H.his] arms|"
          "swim on [H.his] back}|swam {three|four|five} strokes{| {alone|without help}}}.");
  s.say(
      "{After [n]|[n] later|It took [n], but then}{|,} [H] could swim {across the [P]|all alone|without help|as "
      "{well|fast} as [F]}.");
  const bool saves = s.chance(80);
  if (saves) {
    s.say(
        "{One {day|morning|afternoon}|Soon after that|In {July|summer}}, {the wind blew {[F]'s|@} [o.f] into the "
        "water|[F] dropped @ [o.f] into the "
        "[P]|@ [o.f] fell into the [P]}{|, and {[F] was {tired|ill}|nobody else was near}}.");
    s.say(
        "{[H.s] {swam|jumped in and swam} to the [o] and {brought|carried} it back{| to [F]}|\"I will get the [o],\" "
        "{said|cried} [H], and [H.he] swam "
        "out and {brought|got} it}.");
    fact_who(s, "Who swam to the [o.f]?", "The [o.f] was brought back by", 'H', "FR");
    fact_colour(s, "What color was the [o] in the water?", "The [o] in the water was", 'o');
    fact_from(s, "what", "What fell into the [P]?", "Into the [P] fell @ [o.c]", toy_nouns(), s.noun_of('o'));
  }
  s.maybe(70,
          "{\"{You swim like a fish|I am proud of you|You were very brave}, [H],\" said {[F]|[R]}|[F] "
          "{clapped|cheered} and {threw [H] a towel|gave [H] a "
          "hug}}.");
  fact_who(s, "Who taught [H] to swim?", "[H] learned to swim from", 'R', "FH");
  fact_count(s, "How long did it take [H] to learn to swim?", "It took [H]", days, {}, kDay);
  close(s, saves ? "swum out to the [o]" : "learned to swim");
}

void night_noise(Story& s) {
  const std::string_view noise = s.pick(kNoises), spot = s.pick(kNightSpots), guess = other_than(s, kNoises, {noise});
  s.bind('a', noise);
  s.bind('b', spot);
  s.bind('g', guess);
  s.bind('e', s.pick(Words(kFears)));
  introduce_hero(s);
  s.say(
      "{One {dark|cold|stormy|quiet} night|In the middle of the night|Late one {evening|night}}, [H] {heard|woke up "
      "and heard} a {strange|loud|soft} "
      "{noise|sound} [b].");
  s.say(
      "{[H.s] {was|felt} {scared|afraid|frightened} and {pulled the blanket over [H.his] head|held [H.his] "
      "pillow|could not sleep}|\"Is that [e] [b]?\"|"
      "[H.s] thought of [e] and {called [R]|began to shake|hid under the blanket}}.");
  s.maybe(60,
          "{[R] came with a {lamp|candle}|[H] {went to|woke} [R]}{ and {told|asked} [R.him] about the noise|, because "
          "[R] was never afraid|}.");
  s.maybe(60, "\"{Maybe|Perhaps} it is {only |}[g],\" said {[R]|[F]}{|, but it was not}.");
  const char brave = s.chance(50) ? 'H' : 'R';
  s.bind('X', s.person(brave));
  s.bind('Y', s.person(brave == 'H' ? 'R' : 'H'));
  s.say(
      "{So|Then} [X] {took {a|the} {lamp|candle|light} and {went|looked|climbed}|{held|lifted} the lamp and looked} to "
      "see what was [b]{|, and [Y] {came "
      "along|followed {quietly|slowly}|waited at the door}}.");
  s.say("{There [X.s] found|And what did [X] see there but|It was not [e] but} [a]{!|.}");
  s.say(
      "{[H] {laughed|had to laugh} {out loud|with relief|about [H.his] fear}{| because it was only [a]}|\"{It is|It "
      "was} only [a],\" {said|laughed} "
      "[H]}.");
  s.maybe(60,
          "\"{Things are never so bad when you look at them|The dark is full of small sounds|You were {very |}brave}, "
          "[H],\" said [R].");
  fact_from(s, "what", "What made the noise [b]?", "The noise [b] was made by", kNoises, noise, {guess});
  fact_from(s, "where", "Where did the noise come from?", "[H] heard the noise", kNightSpots, spot);
  fact_who(s, "Who went to see what was [b]?", "The one who went to look was", brave, brave == 'H' ? "RF" : "HF");
  close(s, "found out about the noise");
}

}  // namespace attar
